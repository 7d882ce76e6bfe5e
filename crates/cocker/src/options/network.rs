//! `--net BRIDGE|HOST|CUSTOM`, and what only BRIDGE has: `--vip`, `--host-eth`, `--port-mapping`.

use super::said::CreateOptions;
use crate::failure::Failure;
use cocker_engine::{BridgeRequest, NetworkRequest, PortMapping};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The kernel's limit for the name of a link (`IFNAMSIZ`), in bytes.
const LONGEST_LINK: usize = 15;

/// What takes all port mappings away.
const NO_MAPPINGS: &str = "none";

const MAPPING_HINT: &str =
    "say [ADDR:]HOST:CONTAINER[/udp][,…], as `--port-mapping 8080:80,127.0.0.1:5300:53/udp`.";

/// The network of a container to be.
pub fn network(said: &CreateOptions) -> Result<NetworkRequest, Failure> {
    let network = match said.net.as_deref() {
        Some("BRIDGE") => return Ok(NetworkRequest::Bridge(bridge(said)?)),
        None | Some("HOST") => NetworkRequest::Host,
        Some("CUSTOM") => NetworkRequest::Custom,
        Some(net) => {
            return Err(Failure::usage(format!(
                "there is no network `{net}`; there are BRIDGE, HOST, CUSTOM"
            )));
        }
    };
    let needs_bridge = [
        ("--vip", &said.vip),
        ("--port-mapping", &said.port_mapping),
        ("--host-eth", &said.host_eth),
    ];
    match needs_bridge.iter().find(|(_, value)| value.is_some()) {
        None => Ok(network),
        Some((option, _)) => Err(Failure::usage(format!("`{option}` needs `--net BRIDGE`"))),
    }
}

fn bridge(said: &CreateOptions) -> Result<BridgeRequest, Failure> {
    Ok(BridgeRequest {
        address: said.vip.as_deref().map(address).transpose()?,
        uplink: said.host_eth.as_deref().map(uplink).transpose()?,
        ports: match said.port_mapping.as_deref() {
            Some(text) => mappings(text)?,
            None => Vec::new(),
        },
    })
}

/// A container's address: `166.88.0.5`, without leading zeros.
pub fn address(text: &str) -> Result<Ipv4Addr, Failure> {
    text.parse().map_err(|_| {
        let refused = Failure::usage(format!("`--vip {text}` is not an IPv4 address"));
        match text.parse::<Ipv6Addr>() {
            Ok(_) => refused.hint(
                "the address of a container is an IPv4 address; its IPv6 address follows from it and `subnet6` \
                 in config.toml.",
            ),
            Err(_) => refused.hint("say four numbers, as `--vip 166.88.0.5`."),
        }
    })
}

/// The link by which a container leaves the host. What the kernel takes for a name.
pub fn uplink(text: &str) -> Result<String, Failure> {
    let refuse = |why: &str| {
        Err(Failure::usage(format!(
            "`--host-eth {text}` is not the name of a link: {why}"
        )))
    };
    match text {
        "" => refuse("it is empty"),
        long if long.len() > LONGEST_LINK => refuse("it is longer than 15 bytes"),
        "." | ".." => refuse("it names a folder"),
        odd if odd.contains(['/', ':']) => refuse("`/` and `:` are not allowed"),
        odd if odd.contains(char::is_whitespace) => refuse("blanks are not allowed"),
        good => Ok(good.into()),
    }
}

/// The mappings that replace all others: a list, or `none`.
pub fn mappings_or_none(text: &str) -> Result<Vec<PortMapping>, Failure> {
    match text {
        NO_MAPPINGS => Ok(Vec::new()),
        list => mappings(list)
            .map_err(|failure| failure.hint("`--port-mapping none` takes all mappings away.")),
    }
}

fn mappings(text: &str) -> Result<Vec<PortMapping>, Failure> {
    PortMapping::parse_list(text).map_err(|error| {
        Failure::usage("cannot read `--port-mapping`")
            .caused_by(&error)
            .hint(MAPPING_HINT)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(net: Option<&str>) -> CreateOptions {
        CreateOptions {
            net: net.map(String::from),
            ..CreateOptions::default()
        }
    }

    #[test]
    fn networks_are_named_in_capitals() {
        assert_eq!(network(&said(None)), Ok(NetworkRequest::Host));
        assert_eq!(network(&said(Some("HOST"))), Ok(NetworkRequest::Host));
        assert_eq!(network(&said(Some("CUSTOM"))), Ok(NetworkRequest::Custom));
        let bridge = NetworkRequest::Bridge(BridgeRequest::default());
        assert_eq!(network(&said(Some("BRIDGE"))), Ok(bridge));
        for odd in ["", "bridge", "Host", "BRIDGE ", "NONE", "HOST,BRIDGE"] {
            let refused = Failure::usage(format!(
                "there is no network `{odd}`; there are BRIDGE, HOST, CUSTOM"
            ));
            assert_eq!(network(&said(Some(odd))), Err(refused));
        }
    }

    #[test]
    fn what_only_a_bridge_has_is_refused_elsewhere() {
        for net in [None, Some("HOST"), Some("CUSTOM")] {
            let one = || Some("1:1".to_string());
            let options = [
                (
                    "--vip",
                    CreateOptions {
                        vip: one(),
                        ..said(net)
                    },
                ),
                (
                    "--port-mapping",
                    CreateOptions {
                        port_mapping: one(),
                        ..said(net)
                    },
                ),
                (
                    "--host-eth",
                    CreateOptions {
                        host_eth: one(),
                        ..said(net)
                    },
                ),
            ];
            for (option, said) in options {
                let refused = Failure::usage(format!("`{option}` needs `--net BRIDGE`"));
                assert_eq!(network(&said), Err(refused), "{net:?}");
            }
        }
    }

    #[test]
    fn a_bridge_is_asked_for_with_all_it_has() {
        let said = CreateOptions {
            vip: Some("166.88.0.5".into()),
            host_eth: Some("eth0".into()),
            port_mapping: Some("8080:80,53:53/udp".into()),
            ..said(Some("BRIDGE"))
        };
        let bridge = BridgeRequest {
            address: Some(Ipv4Addr::new(166, 88, 0, 5)),
            uplink: Some("eth0".into()),
            ports: PortMapping::parse_list("8080:80,53:53/udp").unwrap(),
        };
        assert_eq!(network(&said), Ok(NetworkRequest::Bridge(bridge)));
    }

    #[test]
    fn an_address_is_an_ipv4_address_and_nothing_else() {
        assert_eq!(address("166.88.0.5"), Ok(Ipv4Addr::new(166, 88, 0, 5)));
        let hint_of = |text: &str| {
            let failure = address(text).expect_err(text);
            let refused = Failure::usage(format!("`--vip {text}` is not an IPv4 address"));
            assert_ne!(failure, refused, "{text} has a hint");
            let follows = "the address of a container is an IPv4 address; its IPv6 address follows from it and \
                           `subnet6` in config.toml.";
            failure == refused.hint(follows)
        };
        for ipv6 in ["::ffff:166.88.0.5", "fd42::5", "::"] {
            assert!(hint_of(ipv6), "{ipv6}");
        }
        for odd in [
            "",
            "1.2.3",
            "1.2.3.4.5",
            "01.2.3.4",
            "1.2.3.04",
            "1.2.3.256",
            " 1.2.3.4",
            "1.2.3.4 ",
            "1.2.3.4/24",
            "+1.2.3.4",
            "0x1.2.3.4",
            "1",
            "16909060",
            "1.2.3.-4",
            "1..3.4",
            "1,2,3,4",
            "localhost",
            "١.2.3.4",
            "[fd42::5]",
            "fd42::5/64",
            "none",
        ] {
            assert!(!hint_of(odd), "{odd}");
        }
    }

    #[test]
    fn a_link_has_a_name_that_the_kernel_takes() {
        for good in [
            "e",
            "eth0",
            "eth0.100",
            "br-0_x",
            "ü",
            "...",
            &"x".repeat(15),
        ] {
            assert_eq!(uplink(good), Ok(good.into()));
        }
        for odd in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            " eth0",
            "eth0\n",
            "a\tb",
            "a\u{a0}b",
            "eth0:1",
            &"x".repeat(16),
            &"ü".repeat(8),
        ] {
            assert!(uplink(odd).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn mappings_are_replaced_by_a_list_or_none() {
        let list = PortMapping::parse_list("8080:80").unwrap();
        assert_eq!(mappings_or_none("8080:80"), Ok(list));
        assert_eq!(mappings_or_none("none"), Ok(vec![]));
        for odd in ["", "NONE", "none,8080:80", "80", "0:80", "80:80,80:81"] {
            assert!(mappings_or_none(odd).is_err(), "{odd}");
        }
        let none_at_create = CreateOptions {
            port_mapping: Some("none".into()),
            ..said(Some("BRIDGE"))
        };
        assert!(network(&none_at_create).is_err());
    }
}
