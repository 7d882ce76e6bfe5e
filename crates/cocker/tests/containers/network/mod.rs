//! The network of a container, each test in a lab of its own.
//!
//! Unless a test says otherwise, the first container has 166.88.0.2, the host is 10.99.0.1 to those outside, and who is
//! outside is 10.99.0.2.

mod bridge;
mod crashes;
mod custom;
mod guard;
mod ipv6;
mod mappings;
mod names;
mod refusals;
mod repair;
mod stores;
mod taken;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    [
        bridge::trials(),
        names::trials(),
        refusals::trials(),
        mappings::trials(),
        taken::trials(),
        guard::trials(),
        ipv6::trials(),
        custom::trials(),
        stores::trials(),
        repair::trials(),
        crashes::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
