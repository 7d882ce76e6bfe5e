//! Processes of a container that have not ended though they were killed: the kernel lets nobody go who waits for an answer that
//! cannot be done without. All that is asked of such a process is what the kernel answers without it: its memory may be held by
//! the very wait, so its command line is not read.

use cocker_sandbox::Cgroup;
use std::fmt;
use std::fs;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// On the host.
    pid: i32,
    name: String,
    /// The kernel's function that it waits in, where that is told.
    waits_in: Option<String>,
    /// The numbers of the FUSE file systems that it sees, as in /sys/fs/fuse/connections.
    connections: Vec<u32>,
}

impl Stuck {
    /// Who keeps a cgroup from being empty: where there are several, one that waits in the kernel. None where nobody is in it, or
    /// nobody can say who.
    pub(crate) fn in_cgroup(cgroup: &Cgroup) -> Option<Stuck> {
        let members = cgroup.members().ok()?;
        let mut pids: Vec<i32> = members
            .iter()
            .map(|pid| pid.as_raw_nonzero().get())
            .collect();
        pids.sort_by_key(|pid| (state(*pid) != Some('D'), *pid));
        let pid = *pids.first()?;
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        let waits_in = read("wchan").filter(|it| !it.is_empty() && it != "0");
        Some(Stuck {
            pid,
            name: read("comm")?.trim_end().into(),
            waits_in,
            connections: connections(&read("mountinfo").unwrap_or_default()),
        })
    }

    /// As much as a column has room for.
    pub(crate) fn in_short(&self) -> String {
        format!(
            "process {} (`{}`) does not end",
            self.pid,
            self.name.escape_debug()
        )
    }

    pub(crate) fn hint(&self) -> String {
        let mend = match &self.connections[..] {
            [] => "mend that, or end it by `umount -f`".into(),
            numbers => {
                let files = numbers
                    .iter()
                    .map(|number| format!("`echo 1 > /sys/fs/fuse/connections/{number}/abort`"));
                let files: Vec<String> = files.collect();
                format!(
                    "end its server, or its connection by {}",
                    files.join(" or ")
                )
            }
        };
        format!(
            "a file system or device that it uses may not answer: {mend}. The container is released when the process has gone."
        )
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, though it was killed", self.in_short())?;
        match &self.waits_in {
            Some(function) => write!(
                f,
                ": it waits in the kernel (`{}`)",
                function.escape_debug()
            ),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Stuck {}

/// The letter of proc_pid_stat(5), which stands behind the name in brackets.
fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Of a FUSE mount the device's minor number is that of its connection (proc_pid_mountinfo(5)).
fn connections(mountinfo: &str) -> Vec<u32> {
    let of_line = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let is_fuse = kind.starts_with("fuse") || kind.starts_with("virtiofs");
        let device = mount.split(' ').nth(2).filter(|_| is_fuse)?;
        device.split_once(':')?.1.parse().ok()
    };
    let mut numbers: Vec<u32> = mountinfo.lines().filter_map(of_line).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_those_of_fuse() {
        let mountinfo = "\
            36 35 98:0 / / rw,noatime - ext4 /dev/root rw\n\
            40 36 0:53 / /data rw - fuse.sshfs host rw,user_id=0\n\
            41 36 0:53 /x /more rw shared:1 - fuse host rw\n\
            42 36 0:7 / /proc rw - proc proc rw\n";
        assert_eq!(connections(mountinfo), [53]);
        assert_eq!(connections(""), Vec::<u32>::new());
    }

    #[test]
    fn a_running_process_is_told_by_its_state() {
        // Its first thread waits while this one runs.
        let own = state(std::process::id() as i32);
        assert!(matches!(own, Some('R' | 'S')), "{own:?}");
        assert_eq!(state(i32::MAX), None);
    }
}
