//! Ports of the host that its own programs use: a mapping would cut them off without a word, so it is refused.

use crate::failure::NetworkError;
use crate::mapping::Protocol;
use crate::plan::Endpoint;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Asks the kernel by taking each port for a moment, without listening on it.
pub(crate) fn refuse_those_in_use(endpoint: &Endpoint) -> Result<(), NetworkError> {
    for mapping in &endpoint.ports {
        let addresses = match mapping.address {
            Some(address) => vec![address],
            None => {
                let ipv6 = endpoint.address6.map(|_| Ipv6Addr::UNSPECIFIED.into());
                [Some(Ipv4Addr::UNSPECIFIED.into()), ipv6]
                    .into_iter()
                    .flatten()
                    .collect()
            }
        };
        for address in addresses {
            for (host, _) in mapping.pairs() {
                if is_in_use(mapping.protocol, address, host) {
                    let port = describe(mapping.protocol, mapping.address, host);
                    return Err(NetworkError::PortInUse { port });
                }
            }
        }
    }
    Ok(())
}

fn is_in_use(protocol: Protocol, address: IpAddr, port: u16) -> bool {
    let family = match address {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let bound = || -> Result<(), Errno> {
        let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        if protocol == Protocol::Tcp {
            // Connections that have ended and only wait for their last minute are in nobody's way, listeners are.
            rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
        }
        if address.is_ipv6() {
            rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
        }
        rustix::net::bind(&socket, &SocketAddr::new(address, port))
    };
    // Whatever else is wrong, such as an address that the host does not have yet, is no program in the way.
    bound() == Err(Errno::ADDRINUSE)
}

fn describe(protocol: Protocol, address: Option<IpAddr>, port: u16) -> String {
    let protocol = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    match address {
        None => format!("{protocol} {port}"),
        Some(address) => format!("{protocol} {}", SocketAddr::new(address, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn a_port_that_somebody_listens_on_is_in_use_and_then_free_again() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let listener = TcpListener::bind((loopback, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(is_in_use(Protocol::Tcp, loopback, port));
        assert!(is_in_use(Protocol::Tcp, Ipv4Addr::UNSPECIFIED.into(), port));
        drop(listener);
        assert!(!is_in_use(Protocol::Tcp, loopback, port));
        let socket = UdpSocket::bind((loopback, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(is_in_use(Protocol::Udp, loopback, port));
    }
}
