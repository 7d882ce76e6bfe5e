//! The network: a pair of links with one end in the bridge `floor0`, address and route inside, and an element in a map of
//! nf_tables (rtnetlink(7); linux/netfilter/nf_tables.h). Bridge and table are there before.

use crate::calls::{call, close, open};

const MAPPED: ([u8; 4], u16, [u8; 4], u16) = ([0, 0, 0, 0], 8080, [10, 98, 0, 2], 80);
const GATEWAY: [u8; 4] = [10, 98, 0, 1];
const HARDWARE: [u8; 6] = [2, 0x42, 10, 98, 0, 2];

/// `net` is the network namespace of the container whose root process is `pid`.
pub fn attach(pid: usize, net: usize) {
    let link = format!("fl{pid}");
    let bridge = index("floor0");
    let host = socket(libc::NETLINK_ROUTE);
    let mut peer = vec![0; 16];
    attribute(&mut peer, 3, b"eth0\0");
    attribute(&mut peer, 1, &HARDWARE);
    attribute(&mut peer, 28, &(net as u32).to_ne_bytes()); // IFLA_NET_NS_FD
    let mut data = Vec::new();
    attribute(&mut data, 1, &peer); // VETH_INFO_PEER
    let mut info = Vec::new();
    attribute(&mut info, 1, b"veth\0");
    attribute(&mut info, 2, &data);
    let mut new = link_header(0, 0);
    attribute(&mut new, 3, &with_nul(&link));
    attribute(&mut new, 10, &bridge.to_ne_bytes()); // IFLA_MASTER
    attribute(&mut new, 18, &info); // IFLA_LINKINFO
    exchange(host, &[message(16, CREATE, &new)], 1);
    let index = index(&link);
    let mut neighbour = vec![libc::AF_BRIDGE as u8, 0, 0, 0];
    neighbour.extend(index.to_ne_bytes());
    neighbour.extend([0x40, 0, 4, 0]); // NUD_NOARP, NTF_MASTER
    attribute(&mut neighbour, 2, &HARDWARE);
    exchange(
        host,
        &[
            message(16, 0, &link_header(index, 1)),
            message(28, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, &neighbour),
        ],
        2,
    );
    close(host);

    let own = open("/proc/thread-self/ns/net", libc::O_RDONLY);
    call(
        "setns",
        libc::SYS_setns,
        [net, libc::CLONE_NEWNET as usize, 0, 0, 0, 0],
    );
    let inside = socket(libc::NETLINK_ROUTE);
    let mut address = vec![libc::AF_INET as u8, 24, 0, 0];
    address.extend(2u32.to_ne_bytes());
    attribute(&mut address, 1, &MAPPED.2);
    attribute(&mut address, 2, &MAPPED.2);
    let mut route = vec![libc::AF_INET as u8, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0]; // main table, RTPROT_BOOT, everywhere, unicast
    attribute(&mut route, 5, &GATEWAY);
    let messages = [
        message(16, 0, &link_header(1, 1)),
        message(16, 0, &link_header(2, 1)),
        message(20, CREATE, &address),
        message(24, CREATE, &route),
    ];
    exchange(inside, &messages, 4);
    close(inside);
    call(
        "setns",
        libc::SYS_setns,
        [own, libc::CLONE_NEWNET as usize, 0, 0, 0, 0],
    );
    map_element(true);
}

/// Adds the mapping of one port to the map, or takes it away, as one transaction.
pub fn map_element(add: bool) {
    let (from, port, to, inner) = MAPPED;
    let mut key = from.to_vec();
    key.extend([libc::IPPROTO_TCP as u8, 0, 0, 0]);
    key.extend(port.to_be_bytes());
    key.extend([0, 0]);
    let mut value = to.to_vec();
    value.extend(inner.to_be_bytes());
    value.extend([0, 0]);
    let nested = |bytes: &[u8]| {
        let mut inner = Vec::new();
        attribute(&mut inner, 1, bytes);
        inner
    };
    let mut element = Vec::new();
    attribute(&mut element, 1 | NESTED, &nested(&key));
    if add {
        attribute(&mut element, 2 | NESTED, &nested(&value));
    }
    let mut elements = Vec::new();
    attribute(&mut elements, 1 | NESTED, &element);
    let mut body = vec![1, 0, 0, 0]; // NFPROTO_INET
    attribute(&mut body, 1, b"floor\0");
    attribute(&mut body, 2, b"ports\0");
    attribute(&mut body, 3 | NESTED, &elements);
    let batch = [0, 0, 0, 10]; // NFNL_SUBSYS_NFTABLES
    let (kind, flags) = if add {
        (0x0a00 | 12, CREATE)
    } else {
        (0x0a00 | 14, 0)
    };
    let filter = socket(libc::NETLINK_NETFILTER);
    let mut begin = message(16, 0, &batch);
    let mut end = message(17, 0, &batch);
    // Neither is answered.
    for edge in [&mut begin, &mut end] {
        edge[6] &= !(libc::NLM_F_ACK as u8);
    }
    exchange(filter, &[begin, message(kind, flags, &body), end], 1);
    close(filter);
}

const CREATE: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
const NESTED: u16 = 0x8000;

fn socket(protocol: i32) -> usize {
    let kind = (libc::SOCK_RAW | libc::SOCK_CLOEXEC) as usize;
    call(
        "socket",
        libc::SYS_socket,
        [libc::AF_NETLINK as usize, kind, protocol as usize, 0, 0, 0],
    )
}

fn index(link: &str) -> u32 {
    let mut request = [0u8; 40]; // struct ifreq
    request[..link.len()].copy_from_slice(link.as_bytes());
    let kind = (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as usize;
    let socket = call(
        "socket",
        libc::SYS_socket,
        [libc::AF_UNIX as usize, kind, 0, 0, 0, 0],
    );
    call(
        "SIOCGIFINDEX",
        libc::SYS_ioctl,
        [
            socket,
            libc::SIOCGIFINDEX as usize,
            request.as_mut_ptr() as usize,
            0,
            0,
            0,
        ],
    );
    close(socket);
    u32::from_ne_bytes([request[16], request[17], request[18], request[19]])
}

/// struct ifinfomsg; flag 1 is up.
fn link_header(index: u32, up: u32) -> Vec<u8> {
    let mut header = vec![0; 4];
    header.extend(index.to_ne_bytes());
    header.extend(up.to_ne_bytes());
    header.extend(up.to_ne_bytes());
    header
}

fn with_nul(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend((value.len() as u16 + 4).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn message(kind: u16, flags: i32, body: &[u8]) -> Vec<u8> {
    let mut message = (body.len() as u32 + 16).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(((flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// Sends all at once, and reads that many acknowledgements; one that is an error ends the program.
fn exchange(socket: usize, messages: &[Vec<u8>], answers: usize) {
    let all = messages.concat();
    call(
        "sendto",
        libc::SYS_sendto,
        [socket, all.as_ptr() as usize, all.len(), 0, 0, 0],
    );
    let mut seen = 0;
    while seen < answers {
        let mut buffer = [0u8; 8192];
        let length = call(
            "recvfrom",
            libc::SYS_recvfrom,
            [socket, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0],
        );
        let mut rest = &buffer[..length];
        while rest.len() >= 20 {
            let size = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            let error = i32::from_ne_bytes([rest[16], rest[17], rest[18], rest[19]]);
            if error != 0 {
                eprintln!(
                    "Error: netlink: {}",
                    std::io::Error::from_raw_os_error(-error)
                );
                std::process::exit(1);
            }
            seen += 1;
            rest = &rest[size.next_multiple_of(4).min(rest.len())..];
        }
    }
}
