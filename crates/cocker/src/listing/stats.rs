//! `stats`: what booted containers use, as a table or for programs.
//!
//! `-` and null stand for what is not counted, `none` for a limit that is not there.

use super::{Column, json, size, table};
use crate::rates;
use cocker_engine::{ContainerFigures, Pressure, Stall};
use serde::Serialize;
use std::time::Duration;

const COLUMNS: [Column; 15] = [
    ("container_id", 20),
    ("cpu", 7),
    ("cpu_time", 9),
    ("memory", 8),
    ("cache", 8),
    ("mem_limit", 9),
    ("pids", 6),
    ("pids_limit", 10),
    ("io_read", 8),
    ("io_written", 10),
    ("net_received", 12),
    ("net_sent", 8),
    ("throttled", 9),
    ("oom_kills", 9),
    ("pressure", 14),
];
const DASHES: usize = 161;

/// One container's figures, with what share of a processor it has used over the time that is asked about.
pub struct Row<'a> {
    pub now: &'a ContainerFigures,
    /// Percent of one processor.
    pub cpu: Option<f64>,
}

impl<'a> Row<'a> {
    /// Over the time since the container was booted.
    pub fn since_boot(now: &'a ContainerFigures) -> Row<'a> {
        Row {
            now,
            cpu: rates::cpu_since_boot(now),
        }
    }
}

pub fn for_people(rows: &[Row<'_>]) -> String {
    table(&COLUMNS, DASHES, 0, rows.iter().map(cells).collect())
}

/// An array over several lines.
pub fn for_programs(rows: &[Row<'_>]) -> String {
    json(rows.iter().map(Entry::of).collect::<Vec<_>>())
}

/// An array in one line, as one of many.
pub fn line_for_programs(rows: &[Row<'_>]) -> String {
    let entries: Vec<Entry<'_>> = rows.iter().map(Entry::of).collect();
    crate::escape::json(&entries) + "\n"
}

fn cells(row: &Row<'_>) -> [String; 15] {
    let figures = &row.now.figures;
    let traffic = row.now.traffic;
    let memory = figures.memory;
    [
        row.now.name.to_string(),
        told(row.cpu, |percent| format!("{percent:.1}%")),
        told(figures.cpu, |cpu| time(cpu.usage)),
        told(memory, |it| {
            size(it.current - it.cache.unwrap_or(0).min(it.current))
        }),
        told(memory.and_then(|it| it.cache), size),
        told(memory, |it| limit(it.limit, size)),
        told(figures.pids, |it| it.current.to_string()),
        told(figures.pids, |it| limit(it.limit, |most| most.to_string())),
        told(figures.io, |it| size(it.read)),
        told(figures.io, |it| size(it.written)),
        told(traffic, |it| size(it.received)),
        told(traffic, |it| size(it.sent)),
        told(figures.throttling, |it| time(it.throttled)),
        told(figures.oom_kills, |kills| kills.to_string()),
        [
            figures.cpu_pressure,
            figures.memory_pressure,
            figures.io_pressure,
        ]
        .map(|it| told(it, |it| format!("{:.1}", percent(it.some.averages[0]))))
        .join("/"),
    ]
}

fn told<T>(figure: Option<T>, tell: impl FnOnce(T) -> String) -> String {
    figure.map_or_else(|| "-".into(), tell)
}

fn limit(limit: Option<u64>, tell: impl FnOnce(u64) -> String) -> String {
    limit.map_or_else(|| "none".into(), tell)
}

/// `1.23s`, `2m05s`, `3h00m`, `4d02h`.
pub fn time(microseconds: u64) -> String {
    let seconds = microseconds / 1_000_000;
    match seconds {
        0..60 => format!("{seconds}.{:02}s", microseconds % 1_000_000 / 10_000),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

fn percent(hundredths: u32) -> f64 {
    f64::from(hundredths) / 100.0
}

/// The names of the fields are an interface: they stay. Whatever is a counter counts from the container's boot on.
#[derive(Serialize)]
struct Entry<'a> {
    container_id: &'a str,
    pid: i32,
    uptime_seconds: Option<f64>,
    /// Of one processor; with `--live` since the last look, else since the boot.
    cpu_percent: Option<f64>,
    cpu_usage_usec: Option<u64>,
    cpu_user_usec: Option<u64>,
    cpu_system_usec: Option<u64>,
    cpu_periods: Option<u64>,
    cpu_throttled_periods: Option<u64>,
    cpu_throttled_usec: Option<u64>,
    /// With the cache.
    memory_bytes: Option<u64>,
    memory_cache_bytes: Option<u64>,
    /// Null also where there is no limit.
    memory_limit_bytes: Option<u64>,
    oom_kills: Option<u64>,
    pids: Option<u64>,
    /// Null also where there is no limit.
    pids_limit: Option<u64>,
    io_read_bytes: Option<u64>,
    io_written_bytes: Option<u64>,
    io_read_operations: Option<u64>,
    io_write_operations: Option<u64>,
    net_received_bytes: Option<u64>,
    net_sent_bytes: Option<u64>,
    net_received_packets: Option<u64>,
    net_sent_packets: Option<u64>,
    pressure: PressureEntry,
}

#[derive(Serialize)]
struct PressureEntry {
    cpu: Option<OnePressure>,
    memory: Option<OnePressure>,
    io: Option<OnePressure>,
}

#[derive(Serialize)]
struct OnePressure {
    some: StallEntry,
    full: Option<StallEntry>,
}

#[derive(Serialize)]
struct StallEntry {
    avg10_percent: f64,
    avg60_percent: f64,
    avg300_percent: f64,
    total_usec: u64,
}

impl<'a> Entry<'a> {
    fn of(row: &Row<'a>) -> Entry<'a> {
        let now = row.now;
        let figures = &now.figures;
        let (cpu, throttling) = (figures.cpu, figures.throttling);
        let (memory, pids, io, traffic) = (figures.memory, figures.pids, figures.io, now.traffic);
        Entry {
            container_id: now.name.as_str(),
            pid: now.pid,
            uptime_seconds: now.uptime().map(|it| rounded(it.as_secs_f64(), 2)),
            cpu_percent: row.cpu.map(|percent| rounded(percent, 2)),
            cpu_usage_usec: cpu.map(|it| it.usage),
            cpu_user_usec: cpu.map(|it| it.user),
            cpu_system_usec: cpu.map(|it| it.system),
            cpu_periods: throttling.map(|it| it.periods),
            cpu_throttled_periods: throttling.map(|it| it.throttled_periods),
            cpu_throttled_usec: throttling.map(|it| it.throttled),
            memory_bytes: memory.map(|it| it.current),
            memory_cache_bytes: memory.and_then(|it| it.cache),
            memory_limit_bytes: memory.and_then(|it| it.limit),
            oom_kills: figures.oom_kills,
            pids: pids.map(|it| it.current),
            pids_limit: pids.and_then(|it| it.limit),
            io_read_bytes: io.map(|it| it.read),
            io_written_bytes: io.map(|it| it.written),
            io_read_operations: io.map(|it| it.reads),
            io_write_operations: io.map(|it| it.writes),
            net_received_bytes: traffic.map(|it| it.received),
            net_sent_bytes: traffic.map(|it| it.sent),
            net_received_packets: traffic.map(|it| it.received_packets),
            net_sent_packets: traffic.map(|it| it.sent_packets),
            pressure: PressureEntry {
                cpu: figures.cpu_pressure.map(OnePressure::of),
                memory: figures.memory_pressure.map(OnePressure::of),
                io: figures.io_pressure.map(OnePressure::of),
            },
        }
    }
}

impl OnePressure {
    fn of(pressure: Pressure) -> OnePressure {
        OnePressure {
            some: StallEntry::of(pressure.some),
            full: pressure.full.map(StallEntry::of),
        }
    }
}

impl StallEntry {
    fn of(stall: Stall) -> StallEntry {
        let [avg10, avg60, avg300] = stall.averages.map(percent);
        StallEntry {
            avg10_percent: avg10,
            avg60_percent: avg60,
            avg300_percent: avg300,
            total_usec: stall.total,
        }
    }
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// The time as [`time`] tells it.
pub fn duration(time_passed: Duration) -> String {
    time(u64::try_from(time_passed.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rates::of_test;
    use cocker_engine::{IoUse, MemoryUse, PidsUse, Throttling, Traffic};

    fn busy() -> ContainerFigures {
        let mut busy = of_test("web", 250);
        let stall = |tenth| Stall {
            averages: [tenth, 0, 0],
            total: 9,
        };
        let pressure = |tenth| Pressure {
            some: stall(tenth),
            full: None,
        };
        busy.figures = cocker_engine::Figures {
            throttling: Some(Throttling {
                periods: 9,
                throttled_periods: 2,
                throttled: 1_230_000,
            }),
            memory: Some(MemoryUse {
                current: 60 << 20,
                cache: Some(10 << 20),
                limit: None,
            }),
            oom_kills: Some(3),
            pids: Some(PidsUse {
                current: 5,
                limit: Some(32_768),
            }),
            io: Some(IoUse {
                read: 2_048,
                written: 5,
                reads: 1,
                writes: 1,
            }),
            cpu_pressure: Some(pressure(1_230)),
            memory_pressure: None,
            io_pressure: Some(pressure(40)),
            ..busy.figures
        };
        busy.traffic = Some(Traffic {
            received: 3 << 30,
            sent: 7,
            received_packets: 2,
            sent_packets: 1,
        });
        busy
    }

    #[test]
    fn a_table_tells_what_is_counted_and_what_is_not() {
        let (busy, idle) = (busy(), of_test("idle", 0));
        let text = for_people(&[Row::since_boot(&busy), Row::since_boot(&idle)]);
        let lines: Vec<&str> = text.lines().collect();
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[1], "-".repeat(lines[1].len()));
        assert_eq!(
            words(lines[2]),
            "web 250.0% 4m10s 50 MB 10 MB none 5 32768 2 KB 5 B 3 GB 7 B 1.23s 3 12.3/-/0.4"
        );
        assert_eq!(
            words(lines[3]),
            "idle 0.0% 0.00s - - - - - - - - - - - -/-/-"
        );
        let widths: usize = COLUMNS.iter().map(|(_, width)| width + 1).sum();
        assert_eq!(DASHES, widths - 1);
        assert_eq!(for_people(&[]), "");
    }

    #[test]
    fn for_programs_all_has_a_unit_and_what_is_not_counted_is_null() {
        let (busy, idle) = (busy(), of_test("idle", 0));
        let rows = [Row::since_boot(&busy), Row::since_boot(&idle)];
        let text = for_programs(&rows);
        let all: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let web = &all[0];
        for (key, value) in [
            ("cpu_usage_usec", 250_000_000u64),
            ("cpu_throttled_usec", 1_230_000),
            ("memory_bytes", 60 << 20),
            ("memory_cache_bytes", 10 << 20),
            ("oom_kills", 3),
            ("pids_limit", 32_768),
            ("io_written_bytes", 5),
            ("net_received_bytes", 3 << 30),
        ] {
            assert_eq!(web[key].as_u64(), Some(value), "{key}");
        }
        assert_eq!(web["cpu_percent"], 250.0);
        assert_eq!(web["uptime_seconds"], 100.0);
        assert_eq!(web["pressure"]["cpu"]["some"]["avg10_percent"], 12.3);
        assert!(web["pressure"]["memory"].is_null());
        assert!(web["memory_limit_bytes"].is_null());
        assert!(all[1]["io_read_bytes"].is_null());
        let line = line_for_programs(&rows);
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&line).expect("JSON"),
            all
        );
        assert_eq!(for_programs(&[]), "[]\n");
    }

    #[test]
    fn times_are_short() {
        let told = [
            0,
            1_239_999,
            59_999_999,
            60_000_000,
            3_599_000_000,
            3_600_000_000,
            93_600_000_000,
        ];
        let told = told.map(time);
        let expected = [
            "0.00s", "1.23s", "59.99s", "1m00s", "59m59s", "1h00m", "1d02h",
        ];
        assert_eq!(told, expected);
    }
}
