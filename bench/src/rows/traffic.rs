//! Networks and disks: how much goes through.

use super::{About, Rows, about};
use crate::engines::{Net, s, strs};
use crate::place::Outcome;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

impl Rows<'_> {
    /// Through a mapping of a port of this host; the server inside is a line of Perl. Beside it: the same server outside.
    pub(super) fn network(&mut self) {
        if !["net-throughput", "net-connections"]
            .iter()
            .any(|id| self.plan.wants(id))
        {
            return;
        }
        const SERVER: &str = "use Socket; socket(S,PF_INET,SOCK_STREAM,0); setsockopt(S,SOL_SOCKET,SO_REUSEADDR,1); \
            bind(S,sockaddr_in(PORT,INADDR_ANY)) or die $!; listen(S,1024); \
            while(accept(C,S)){sysread(C,$b,1<<20); if($b ne 'c'){while(sysread(C,$b,1<<20)){}} close C}";
        let begin = |rows: &Self, subject: &'static str| {
            if subject == "floor" {
                let script = SERVER.replace("PORT", "8081");
                let server = Command::new("perl")
                    .args(["-e", &script])
                    .stdin(Stdio::null())
                    .spawn()
                    .map_err(|error| format!("perl: {error}"))?;
                reach(8081)?;
                return Ok((s(""), Some(server)));
            }
            rows.engines.can(subject, Net::Bridge(1))?;
            let name = rows.name();
            rows.engines.create(subject, &name, Net::Bridge(1))?;
            Ok((name, None))
        };
        // One port, so that one at a time has it.
        let serve = |rows: &Self,
                     subject: &'static str,
                     name: &str,
                     measure: &dyn Fn(u16) -> Outcome<f64>| {
            if subject == "floor" {
                return measure(8081);
            }
            rows.engines.boot(subject, name, Net::Bridge(1))?;
            let words = rows.engines.run_words(
                subject,
                name,
                false,
                &["perl", "-e", &SERVER.replace("PORT", "80")],
            )?;
            let spawn = || {
                rows.engines
                    .place
                    .command(&strs(&words))?
                    .spawn()
                    .map_err(|error| error.to_string())
            };
            let mut server = if subject == "podman" {
                rows.engines.place.aside(spawn)
            } else {
                spawn()
            }?;
            let measured = reach(8080).and_then(|()| measure(8080));
            rows.engines.shutdown(subject, name, Net::Bridge(1))?;
            let _ = server.kill();
            let _ = server.wait();
            measured
        };
        let end = |rows: &Self,
                   subject: &'static str,
                   (name, server): (String, Option<std::process::Child>)| {
            if let Some(mut server) = server {
                let _ = server.kill();
                let _ = server.wait();
            } else {
                rows.engines.discard(subject, &name);
            }
        };
        let few = if self.plan.quick { 1 } else { 7 };
        let row = About {
            unit: "MB/s",
            higher_is_better: true,
            note: "from the host by one of its addresses (10.99.0.1); floor: no container, no mapping",
            ..about("net-throughput", "throughput through a port mapping", "")
        };
        self.row(
            row,
            few,
            begin,
            |rows, subject, state| serve(rows, subject, &state.0, &throughput),
            end,
        );
        let row = About {
            unit: "1/s",
            higher_is_better: true,
            note: "one after the other, opened, asked, and closed by the server; floor: no container, no mapping",
            ..about("net-connections", "connections through a port mapping", "")
        };
        self.row(
            row,
            few,
            begin,
            |rows, subject, state| serve(rows, subject, &state.0, &connections),
            end,
        );
    }

    /// dd(1) with fdatasync inside, beside the host's.
    pub(super) fn disk(&mut self) {
        let few = if self.plan.quick { 1 } else { 5 };
        let row = About {
            unit: "MB/s",
            higher_is_better: true,
            note: "dd of 256 MB with fdatasync into the writable layer; floor: on the host",
            ..about("disk", "writing a file in a container", "")
        };
        self.row(
            row,
            few,
            |rows, subject| {
                rows.engines.can(subject, Net::Host)?;
                if subject == "nspawn" {
                    rows.engines.run_words(subject, "", false, &[])?;
                }
                let name = rows.name();
                if subject != "floor" {
                    rows.engines.create(subject, &name, Net::Host)?;
                    rows.engines.boot(subject, &name, Net::Host)?;
                }
                Ok(name)
            },
            |rows, subject, name| {
                let to = if subject == "floor" {
                    rows.engines.place.path("written")
                } else {
                    s("/written")
                };
                let dd = [
                    "dd",
                    "if=/dev/zero",
                    &format!("of={to}"),
                    "bs=1M",
                    "count=256",
                    "conv=fdatasync",
                    "status=none",
                ]
                .map(s);
                let words = match subject {
                    "floor" => dd.to_vec(),
                    _ => rows.engines.run_words(
                        subject,
                        name,
                        false,
                        &dd.each_ref().map(String::as_str),
                    )?,
                };
                let took = rows.engines.go_as(subject, &words)?;
                match subject {
                    "floor" => drop(fs::remove_file(to)),
                    _ => drop(
                        rows.engines.go_as(
                            subject,
                            &rows
                                .engines
                                .run_words(subject, name, false, &["rm", "/written"])?,
                        )?,
                    ),
                }
                Ok(268.435_456 / (took / 1e3))
            },
            |rows, subject, name| {
                if subject != "floor" {
                    rows.engines.discard(subject, &name);
                }
            },
        );
    }
}

/// Waits until somebody listens there.
fn reach(port: u16) -> Outcome<()> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        if TcpStream::connect(("10.99.0.1", port)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(s("nobody answers through the mapping"))
}

fn throughput(port: u16) -> Outcome<f64> {
    let problem = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(("10.99.0.1", port)).map_err(problem)?;
    let block = vec![0u8; 1 << 20];
    let begun = Instant::now();
    let mut sent = 0.0;
    while begun.elapsed() < Duration::from_millis(700) {
        stream.write_all(&block).map_err(problem)?;
        sent += 1.048_576;
    }
    stream.shutdown(Shutdown::Write).map_err(problem)?;
    // The server closes when it has read all.
    let _ = stream.read(&mut [0]);
    Ok(sent / begun.elapsed().as_secs_f64())
}

/// The server closes first: on our side a closed connection would keep its port for a minute, and there are 28,000.
fn connections(port: u16) -> Outcome<f64> {
    let problem = |error: std::io::Error| error.to_string();
    let begun = Instant::now();
    let mut count = 0.0;
    while begun.elapsed() < Duration::from_millis(700) {
        let mut stream = TcpStream::connect(("10.99.0.1", port)).map_err(problem)?;
        stream.write_all(b"c").map_err(problem)?;
        if stream.read(&mut [0]).map_err(problem)? != 0 {
            return Err(s("the server says something"));
        }
        count += 1.0;
    }
    Ok(count / begun.elapsed().as_secs_f64())
}
