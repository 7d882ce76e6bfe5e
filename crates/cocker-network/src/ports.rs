//! Ports of the host that its own programs listen on: a mapping would cut them off without a word, so it is refused.
//!
//! Asked of the kernel (sock_diag(7)), which tells listeners of TCP, and sockets of UDP that are connected to nobody; a
//! client's own port is in nobody's way.

use crate::failure::NetworkError;
use crate::mapping::{PortMapping, Protocol};
use crate::netlink::numbers::*;
use crate::netlink::{Messages, Netlink, Refusal};
use crate::plan::Endpoint;
use crate::sysctl;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::ControlFlow;

/// A socket that waits for whoever comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listener {
    protocol: Protocol,
    address: IpAddr,
    port: u16,
    /// It has an address of IPv6 and takes those of IPv4 as well.
    takes_both: bool,
}

pub(crate) fn refuse_those_in_use(endpoint: &Endpoint) -> Result<(), NetworkError> {
    if endpoint.ports.is_empty() {
        return Ok(());
    }
    let mut netlink = Netlink::sockets().map_err(|source| NetworkError::Open { source })?;
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        if !endpoint
            .ports
            .iter()
            .any(|mapping| mapping.protocol == protocol)
        {
            continue;
        }
        let mut listeners = listeners(&mut netlink, protocol, libc::AF_INET)?;
        if sysctl::has_ipv6() {
            listeners.extend(self::listeners(&mut netlink, protocol, libc::AF_INET6)?);
        }
        let has_ipv6 = endpoint.address6.is_some();
        for listener in listeners {
            let mut mappings = endpoint.ports.iter();
            if mappings.any(|mapping| cuts_off(mapping, &listener, has_ipv6)) {
                let address = SocketAddr::new(listener.address, listener.port);
                let port = format!("{protocol} {address}");
                return Err(NetworkError::PortInUse { port });
            }
        }
    }
    Ok(())
}

/// Says whether what comes for the listener would be led away.
fn cuts_off(mapping: &PortMapping, listener: &Listener, has_ipv6: bool) -> bool {
    let is_port = listener
        .port
        .checked_sub(mapping.host)
        .is_some_and(|distance| distance < mapping.count);
    let listens_on = |address: IpAddr| {
        let is_family = listener.address.is_ipv4() == address.is_ipv4();
        match listener.address.is_unspecified() {
            true => is_family || (address.is_ipv4() && listener.takes_both),
            false => listener.address == address,
        }
    };
    let is_address = match mapping.address {
        Some(address) => listens_on(address),
        None => listener.address.is_ipv4() || listener.takes_both || has_ipv6,
    };
    mapping.protocol == listener.protocol && is_port && is_address
}

/// `TCP_LISTEN`, and `TCP_CLOSE`, which stands for a socket of UDP without a peer (linux/tcp_states.h).
const fn waiting(protocol: Protocol) -> u32 {
    match protocol {
        Protocol::Tcp => 1 << 10,
        Protocol::Udp => 1 << 7,
    }
}

fn listeners(
    netlink: &mut Netlink,
    protocol: Protocol,
    family: i32,
) -> Result<Vec<Listener>, Refusal> {
    // struct inet_diag_req_v2 of linux/inet_diag.h: family, protocol, two bytes, states, and the id of no socket.
    let mut request = [0; 56];
    request[0] = family as u8;
    request[1] = protocol.number();
    request[4..8].copy_from_slice(&waiting(protocol).to_ne_bytes());
    let mut messages = Messages::new();
    let what = "list what the host's programs listen on";
    messages.begin(what, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &request);
    let mut listeners = Vec::new();
    netlink.ask(messages, |answer| {
        // struct inet_diag_msg: family, state, two bytes, then the id: ports, addresses.
        if let Some((said, attributes)) = answer.split::<72>()
            && let Some(address) = address(&said)
        {
            let is_alone = attributes
                .find(INET_DIAG_SKV6ONLY)
                .is_some_and(|alone| alone != [0]);
            listeners.push(Listener {
                protocol,
                address,
                port: u16::from_be_bytes([said[4], said[5]]),
                takes_both: address == Ipv6Addr::UNSPECIFIED && !is_alone,
            });
        }
        ControlFlow::Continue(())
    })?;
    Ok(listeners)
}

fn address(said: &[u8; 72]) -> Option<IpAddr> {
    let source = &said[8..24];
    match i32::from(said[0]) {
        libc::AF_INET => Some(Ipv4Addr::from(*source.first_chunk::<4>()?).into()),
        libc::AF_INET6 => Some(Ipv6Addr::from(*source.first_chunk::<16>()?).to_canonical()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    fn of_port(protocol: Protocol, port: u16) -> Vec<Listener> {
        let mut netlink = Netlink::sockets().unwrap();
        let mut found = listeners(&mut netlink, protocol, libc::AF_INET).unwrap();
        found.extend(listeners(&mut netlink, protocol, libc::AF_INET6).unwrap());
        found.retain(|listener| listener.port == port);
        found
    }

    #[test]
    fn listeners_are_told_and_clients_are_not() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let of_client = client.local_addr().unwrap().port();
        assert_eq!(of_port(Protocol::Tcp, port).len(), 1);
        assert_eq!(of_port(Protocol::Tcp, of_client), []);
        drop(listener);
        assert_eq!(of_port(Protocol::Tcp, port), []);
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let found = of_port(Protocol::Udp, port);
        assert!(
            matches!(
                found[..],
                [Listener {
                    takes_both: true,
                    ..
                }]
            ),
            "{found:?}"
        );
    }

    #[test]
    fn a_mapping_cuts_off_who_listens_where_it_leads_away() {
        let listener = |address: &str, takes_both| Listener {
            protocol: Protocol::Tcp,
            address: address.parse().unwrap(),
            port: 8080,
            takes_both,
        };
        let cuts = |mapping: &str, listener: &Listener, has_ipv6| {
            let mappings = PortMapping::parse_list(mapping).unwrap();
            cuts_off(&mappings[0], listener, has_ipv6)
        };
        let local = listener("127.0.0.1", false);
        assert!(cuts("8080:80", &local, false) && cuts("8000-9000:8000-9000", &local, false));
        assert!(!cuts("10.0.0.1:8080:80", &local, false));
        assert!(!cuts("8081:80", &local, false) && !cuts("8080:80/udp", &local, false));
        let every = listener("::", true);
        assert!(cuts("10.0.0.1:8080:80", &every, false) && cuts("8080:80", &every, false));
        let six = listener("::", false);
        assert!(!cuts("8080:80", &six, false) && cuts("8080:80", &six, true));
    }
}
