//! What a container may use: `--cpus`, `--mem-limit` and their kind, each of which `none` lifts.

use super::meaning::{Command, name};
use super::said::{self, LimitOptions};
use crate::failure::Failure;
use cocker_engine::{CpuList, HugePages, IoMax, LimitChanges, NoFile, Said, parse_size};

/// What lifts a limit.
const NONE: &str = "none";

/// The kernel's least and greatest weight; everybody has 100.
const WEIGHTS: (u64, u64) = (1, 10_000);
const LEAST_MEMORY: u64 = 4 << 20;
/// Far more than anybody has, and still a number to the kernel.
const MOST_BYTES: u64 = 1 << 60;
/// The container's own few processes, and a shell.
const LEAST_PROCESSES: u64 = 16;
/// The kernel's limit for process numbers (`PID_MAX_LIMIT`).
const MOST_PROCESSES: u64 = 4 << 20;
const LEAST_FILES: u64 = 64;
/// The kernel's own default for the most that a process may have (`fs.nr_open`).
const MOST_FILES: u64 = 1 << 20;
/// Microseconds, in each 100,000, that are one percent of a processor.
const PERCENT: u64 = 1_000;

/// `set-limits`.
pub fn set_limits(said: &said::SetLimits) -> Result<Command, Failure> {
    let changes = changes(&said.limits)?;
    if changes == LimitChanges::default() {
        return Err(Failure::usage("no limit is given")
            .hint("say one, as `--mem-limit 100M`; `none` lifts it."));
    }
    Ok(Command::SetLimits(
        name(said.container.name())?,
        Box::new(changes),
    ))
}

/// What is to change.
pub fn changes(said: &LimitOptions) -> Result<LimitChanges, Failure> {
    Ok(LimitChanges {
        cpus: read(&said.cpus, cpus)?,
        cpu_quota: read(&said.cpu_quota, quota)?,
        cpu_weight: read(&said.cpu_weight, |text| weight("--cpu-weight", text))?,
        mem_limit: read(&said.mem_limit, memory)?,
        swap_limit: read(&said.swap_limit, |text| bytes("--swap-limit", text, 0))?,
        oom_kill_group: match said.oom_kill_group.as_deref() {
            None => Said::Nothing,
            Some("off" | NONE) => Said::Unlimited,
            Some("on") => Said::To(()),
            Some(text) => {
                return Err(Failure::usage(format!(
                    "`--oom-kill-group {text}` is neither `on` nor `off`"
                )));
            }
        },
        pids_limit: read(&said.pids_limit, |text| {
            let range = (LEAST_PROCESSES, MOST_PROCESSES);
            whole("--pids-limit", text, range)
        })?,
        io_weight: read(&said.io_weight, |text| weight("--io-weight", text))?,
        io_max: read_all("--io-max", &said.io_max, io_max)?,
        huge_pages: read_all("--hugepages", &said.hugepages, huge_pages)?,
        nofile: read(&said.nofile, nofile)?,
    })
}

/// The options that are given, for whoever must have none.
pub fn given(said: &LimitOptions) -> Option<&'static str> {
    let given = [
        ("--cpus", said.cpus.is_some()),
        ("--cpu-quota", said.cpu_quota.is_some()),
        ("--cpu-weight", said.cpu_weight.is_some()),
        ("--mem-limit", said.mem_limit.is_some()),
        ("--swap-limit", said.swap_limit.is_some()),
        ("--oom-kill-group", said.oom_kill_group.is_some()),
        ("--pids-limit", said.pids_limit.is_some()),
        ("--io-weight", said.io_weight.is_some()),
        ("--io-max", !said.io_max.is_empty()),
        ("--hugepages", !said.hugepages.is_empty()),
        ("--nofile", said.nofile.is_some()),
    ];
    let mut given = given.into_iter().filter(|(_, is_given)| *is_given);
    given.next().map(|(option, _)| option)
}

fn read<T>(
    said: &Option<String>,
    parse: impl Fn(&str) -> Result<T, Failure>,
) -> Result<Said<T>, Failure> {
    Ok(match said.as_deref() {
        None => Said::Nothing,
        Some(NONE) => Said::Unlimited,
        Some(text) => Said::To(parse(text)?),
    })
}

fn read_all<T>(
    option: &str,
    said: &[String],
    parse: impl Fn(&str) -> Result<T, Failure>,
) -> Result<Said<Vec<T>>, Failure> {
    if said.is_empty() {
        return Ok(Said::Nothing);
    }
    if said.iter().any(|text| text == NONE) {
        return match said.len() {
            1 => Ok(Said::Unlimited),
            _ => Err(Failure::usage(format!(
                "`{option} none` lifts all: nothing can stand beside it"
            ))),
        };
    }
    let all: Result<Vec<T>, Failure> = said.iter().map(|text| parse(text)).collect();
    all.map(Said::To)
}

fn cpus(text: &str) -> Result<CpuList, Failure> {
    CpuList::parse(text).ok_or_else(|| {
        Failure::usage(format!("`--cpus {text}` is not a list of processors"))
            .hint("say their numbers, from 0 on, as `--cpus 0,2-3`.")
    })
}

/// `25%`, `12.5%`, `250%`.
fn quota(text: &str) -> Result<u64, Failure> {
    let refused = || {
        Failure::usage(format!("`--cpu-quota {text}` is not a share of processors"))
            .hint("say percents from 1% on; 100% is one whole processor, 250% two and a half.")
    };
    let number = text.strip_suffix('%').ok_or_else(refused)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_plain = |digits: &str| {
        !digits.is_empty() && digits.len() <= 7 && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !is_plain(whole) || !is_plain(fraction) || fraction.len() > 3 {
        return Err(refused());
    }
    let whole: u64 = whole.parse().map_err(|_| refused())?;
    let thousandths: u64 = format!("{fraction:0<3}").parse().map_err(|_| refused())?;
    let quota = whole * PERCENT + thousandths;
    match quota >= PERCENT {
        true => Ok(quota),
        false => Err(refused()),
    }
}

fn weight(option: &str, text: &str) -> Result<u64, Failure> {
    whole(option, text, WEIGHTS)
}

fn memory(text: &str) -> Result<u64, Failure> {
    bytes("--mem-limit", text, LEAST_MEMORY)
}

fn bytes(option: &str, text: &str, least: u64) -> Result<u64, Failure> {
    let number = parse_size(text).filter(|bytes| (least..=MOST_BYTES).contains(bytes));
    number.ok_or_else(|| {
        let least = match least {
            0 => "0",
            _ => "4M",
        };
        Failure::usage(format!("`{option} {text}` is not from {least} to 1048576T")).hint(format!(
            "say bytes, or K, M, G, T of them, as `{option} 100M`."
        ))
    })
}

fn whole(option: &str, text: &str, (least, most): (u64, u64)) -> Result<u64, Failure> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_plain);
    let number = number.filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| Failure::usage(format!("`{option} {text}` is not from {least} to {most}")))
}

/// `/dev/sda:wbps=1M,riops=100`; the device may be `8:0`.
fn io_max(text: &str) -> Result<IoMax, Failure> {
    let refused = |why: &str| {
        Failure::usage(format!("`--io-max {text}`: {why}"))
            .hint("say DEV:rbps=…,wbps=…,riops=…,wiops=…, one of the rates at least, as `--io-max /dev/sda:wbps=10M`.")
    };
    let before_rates = text.find('=').map_or(text, |equals| &text[..equals]);
    let colon = before_rates
        .rfind(':')
        .ok_or_else(|| refused("no rate is given"))?;
    let (device, rates) = (&text[..colon], &text[colon + 1..]);
    if device.is_empty() {
        return Err(refused("no device is given"));
    }
    let mut limit = IoMax {
        device: device.into(),
        ..IoMax::default()
    };
    for rate in rates.split(',') {
        let (key, value) = rate
            .split_once('=')
            .ok_or_else(|| refused(&format!("`{rate}` is no rate")))?;
        let place = match key {
            "rbps" => &mut limit.rbps,
            "wbps" => &mut limit.wbps,
            "riops" => &mut limit.riops,
            "wiops" => &mut limit.wiops,
            _ => return Err(refused(&format!("there is no rate `{key}`"))),
        };
        let number = parse_size(value).filter(|number| (1..=MOST_BYTES).contains(number));
        let number =
            number.ok_or_else(|| refused(&format!("`{value}` is not a rate from 1 on")))?;
        if place.replace(number).is_some() {
            return Err(refused(&format!("`{key}` is given twice")));
        }
    }
    Ok(limit)
}

/// `64M`, or `1G=2G` for pages of 1 GiB.
fn huge_pages(text: &str) -> Result<HugePages, Failure> {
    let refused = || {
        Failure::usage(format!("`--hugepages {text}` is not an amount of memory")).hint(
            "say [PAGE=]BYTES, as `--hugepages 64M`, or `--hugepages 1G=4G` in pages of 1 GiB.",
        )
    };
    let (page, bytes) = match text.split_once('=') {
        Some((page, bytes)) => (Some(parse_size(page).ok_or_else(refused)?), bytes),
        None => (None, text),
    };
    let bytes = parse_size(bytes).filter(|bytes| *bytes <= MOST_BYTES);
    Ok(HugePages {
        page,
        bytes: bytes.ok_or_else(refused)?,
    })
}

/// `1024`, or `1024:4096`: what a process has, and what it may raise that to.
fn nofile(text: &str) -> Result<NoFile, Failure> {
    let range = (LEAST_FILES, MOST_FILES);
    let (soft, hard) = text.split_once(':').unwrap_or((text, text));
    let soft = whole("--nofile", soft, range)?;
    let hard = whole("--nofile", hard, range)?;
    match soft <= hard {
        true => Ok(NoFile { soft, hard }),
        false => Err(Failure::usage(format!(
            "`--nofile {text}`: the first number is above the second one"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with the value, or the value.
    fn said<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
        match result {
            Ok(value) => format!("{value:?}"),
            Err(failure) => format!("{failure:?}"),
        }
    }

    #[test]
    fn a_quota_is_percents_of_one_processor() {
        for (text, expected) in [
            ("1%", 1_000),
            ("25%", 25_000),
            ("12.5%", 12_500),
            ("250%", 250_000),
            ("1.001%", 1_001),
        ] {
            assert_eq!(said(quota(text)), expected.to_string(), "{text}");
        }
        for bad in [
            "0%",
            "0.9%",
            "%",
            "25",
            "-1%",
            "1.%",
            ".5%",
            "1.0001%",
            "1e2%",
            "99999999%",
            "25 %",
            "",
        ] {
            assert!(quota(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_number_out_of_range_is_refused_with_the_range() {
        let text = said(whole("--pids-limit", "15", (16, 4 << 20)));
        assert!(
            text.contains("`--pids-limit 15` is not from 16 to 4194304"),
            "{text}"
        );
        for bad in [
            "",
            "0",
            "+1",
            "1.5",
            "10001",
            "99999999999999999999999",
            "0x10",
        ] {
            assert!(weight("--cpu-weight", bad).is_err(), "{bad}");
        }
        let text = said(memory("4095K"));
        assert!(
            text.contains("`--mem-limit 4095K` is not from 4M to 1048576T"),
            "{text}"
        );
        assert_eq!(said(memory("4M")), (4 << 20).to_string());
        assert_eq!(said(bytes("--swap-limit", "0", 0)), "0");
        assert!(bytes("--swap-limit", "1048577T", 0).is_err());
    }

    #[test]
    fn rates_of_a_disk_are_named() {
        let limit = io_max("/dev/sda:wbps=1M,riops=100").expect("it is sound");
        assert_eq!(limit.device.to_str(), Some("/dev/sda"));
        assert_eq!((limit.wbps, limit.riops), (Some(1 << 20), Some(100)));
        assert_eq!((limit.rbps, limit.wiops), (None, None));
        let limit = io_max("8:16:rbps=5").expect("it is sound");
        assert_eq!(limit.device.to_str(), Some("8:16"));
        let odd = io_max("/dev/disk/by-id/a:b:wiops=5").expect("it is sound");
        assert_eq!(odd.device.to_str(), Some("/dev/disk/by-id/a:b"));
        for bad in [
            "/dev/sda",
            "/dev/sda:",
            ":wbps=1",
            "8:0",
            "8:0:wbps",
            "8:0:wbps=0",
            "8:0:bps=1",
            "8:0:wbps=1,wbps=2",
            "8:0:wbps=1,",
        ] {
            assert!(io_max(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pages_and_files_may_be_said_in_two_parts() {
        let pages = huge_pages("1G=4G").expect("it is sound");
        assert_eq!((pages.page, pages.bytes), (Some(1 << 30), 4 << 30));
        assert_eq!(huge_pages("0").expect("it is sound").page, None);
        assert!(huge_pages("1G=").is_err());
        let files = nofile("100:200").expect("it is sound");
        assert_eq!((files.soft, files.hard), (100, 200));
        for bad in ["63", "200:100", "100:", ":100", "1048577"] {
            assert!(nofile(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn none_lifts_a_limit_and_stands_alone() {
        let said = LimitOptions {
            mem_limit: Some("none".into()),
            io_max: vec!["none".into()],
            ..LimitOptions::default()
        };
        let changes = changes(&said).expect("it is sound");
        assert_eq!(changes.mem_limit, Said::Unlimited);
        assert_eq!(changes.io_max, Said::Unlimited);
        assert_eq!(changes.cpus, Said::Nothing);
        let two = ["none".to_string(), "8:0:wbps=1".to_string()];
        assert!(read_all("--io-max", &two, io_max).is_err());
    }
}
