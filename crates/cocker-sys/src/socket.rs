//! Options of sockets that rustix has no name for.

use crate::process::checked;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;

/// An option of a netlink socket that is off until it is set (netlink(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetlinkOption {
    /// Refusals say why in words (`NETLINK_EXT_ACK`, Linux 4.12).
    ExtendedAcknowledge,
    /// Refusals leave out the message that was refused (`NETLINK_CAP_ACK`, Linux 4.3).
    CappedAcknowledge,
    /// Requests are checked strictly, and dumps filtered as asked (`NETLINK_GET_STRICT_CHK`, Linux 4.20).
    StrictCheck,
}

/// Sets a netlink socket's option.
pub fn set_netlink_option(socket: BorrowedFd<'_>, option: NetlinkOption) -> Result<(), Errno> {
    let option = match option {
        NetlinkOption::ExtendedAcknowledge => libc::NETLINK_EXT_ACK,
        NetlinkOption::CappedAcknowledge => libc::NETLINK_CAP_ACK,
        NetlinkOption::StrictCheck => libc::NETLINK_GET_STRICT_CHK,
    };
    set_number(socket, libc::SOL_NETLINK, option, 1)
}

/// Lets a socket send datagrams of up to half of `bytes`, whatever the host's limit is; needs CAP_NET_ADMIN (socket(7), `SO_SNDBUFFORCE`).
pub fn set_send_buffer(socket: BorrowedFd<'_>, bytes: usize) -> Result<(), Errno> {
    let bytes = i32::try_from(bytes).map_err(|_| Errno::MSGSIZE)?;
    set_number(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes)
}

/// Reads option `name` of `level` into `value`, whose content says what is asked for where the option wants that; returns how many
/// bytes the kernel wrote (getsockopt(2)).
pub fn read_option(
    socket: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &mut [u8],
) -> Result<usize, Errno> {
    let mut length = libc::socklen_t::try_from(value.len()).map_err(|_| Errno::INVAL)?;
    // SAFETY: the kernel reads and writes at most `length` bytes of `value`, and `length` itself; both outlive the call.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    checked(answer.into())?;
    Ok(length as usize)
}

fn set_number(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> Result<(), Errno> {
    // SAFETY: the kernel reads one int, which outlives the call and whose size is given with it.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    checked(answer.into())
}
