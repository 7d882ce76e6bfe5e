//! `set-vip`, `set-port-mapping`, `set-host-eth`, `set-volume` and `set-isolation`: what can be changed of a stopped container; and
//! `set-limits`, `set-restart`, `enable` and `disable`, of a booted one too.

use crate::failure::Failure;
use crate::output;
use cocker_engine::{
    ConfinementRequest, Engine, LimitChanges, Name, OnError, PortMapping, RestartPolicy,
    VolumeRequest,
};
use std::net::Ipv4Addr;

pub fn vip(engine: &Engine, container: &Name, address: Ipv4Addr) -> Result<(), Failure> {
    engine.set_address(container, address)?;
    output::print_ok()
}

pub fn port_mapping(
    engine: &Engine,
    container: &Name,
    ports: Vec<PortMapping>,
) -> Result<(), Failure> {
    engine.set_ports(container, ports)?;
    output::print_ok()
}

pub fn host_eth(engine: &Engine, container: &Name, uplink: Option<String>) -> Result<(), Failure> {
    engine.set_uplink(container, uplink)?;
    output::print_ok()
}

pub fn volume(
    engine: &Engine,
    container: &Name,
    volumes: Vec<VolumeRequest>,
) -> Result<(), Failure> {
    engine.set_volumes(container, volumes)?;
    output::print_ok()
}

pub fn isolation(
    engine: &Engine,
    container: &Name,
    request: &ConfinementRequest,
) -> Result<(), Failure> {
    engine.set_confinement(container, request)?;
    output::print_ok()
}

pub fn limits(engine: &Engine, container: &Name, changes: &LimitChanges) -> Result<(), Failure> {
    engine.set_limits(container, changes)?;
    output::print_ok()
}

pub fn restart(engine: &Engine, container: &Name, policy: RestartPolicy) -> Result<(), Failure> {
    engine.set_restart(container, policy)?;
    output::print_ok()
}

pub fn enabled(
    engine: &Engine,
    container: &Name,
    after: &[Name],
    on_error: OnError,
) -> Result<(), Failure> {
    engine.enable(container, after, on_error)?;
    output::print_ok()
}

pub fn disabled(engine: &Engine, container: &Name) -> Result<(), Failure> {
    engine.disable(container)?;
    output::print_ok()
}
