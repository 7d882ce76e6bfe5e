//! Where the time of a boot goes: cocker's steps as `--debug` tells them, beside the floor's, and the calls that take longest together.

use crate::engines::{Engines, Net, s};
use crate::figures::{short, spread};
use crate::place::{Outcome, rest};
use crate::trace::trace;
use std::fmt::Write as _;
use std::fs;

const ROUNDS: usize = 15;
const SLOWEST: usize = 14;
const TRACES: usize = 5;

/// Steps in their order, with the samples of each, in milliseconds.
type Steps = Vec<(String, Vec<f64>)>;

pub fn page(engines: &Engines) -> Outcome<String> {
    let mut text = s("# Where the time of a boot goes\n\n\
         Made by `make bench-steps`: medians of 15 boots of a container on Debian's root file system, cocker's and the floor's in turn. \
         cocker's steps are those of `cocker boot --debug`, each from the one before to its own line; writing the lines is part of it. \
         The floor's are its own; what init does (`inside`) goes on at the same time as what follows its birth, and is not added up.\n");
    let keeper = [
        engines.cocker(),
        s("create"),
        s("-m"),
        s("debian"),
        s("-c"),
        s("keeper"),
        s("--net"),
        s("BRIDGE"),
        s("-b"),
    ];
    engines.go(&keeper)?;
    let outcome = [
        ("The host's network", Net::Host),
        ("A bridge and one port mapping", Net::Bridge(1)),
    ]
    .into_iter()
    .try_for_each(|(title, net)| section(engines, title, net, &mut text));
    engines.discard("cocker", "keeper");
    outcome?;
    Ok(text)
}

fn section(engines: &Engines, title: &str, net: Net, text: &mut String) -> Outcome<()> {
    eprintln!("{title}");
    let (ours, floors) = (
        format!("ours-{}", title.len()),
        format!("floors-{}", title.len()),
    );
    engines.create("cocker", &ours, net)?;
    engines.create("floor", &floors, net)?;
    let (mut cocker, mut floor): (Steps, Steps) = (Vec::new(), Vec::new());
    let (mut whole, mut least) = (Vec::new(), Vec::new());
    let mut measured = || -> Outcome<()> {
        for round in 0..=ROUNDS {
            rest();
            let took = engines.boot("cocker", &ours, net)?;
            rest();
            engines.shutdown("cocker", &ours, net)?;
            rest();
            engines.go(&[engines.cocker(), s("boot"), s("--debug"), ours.clone()])?;
            let told = fs::read_to_string(engines.place.path("complaints"))
                .map_err(|error| error.to_string())?;
            rest();
            engines.shutdown("cocker", &ours, net)?;
            rest();
            let bare = engines.boot("floor", &floors, net)?;
            rest();
            engines.shutdown("floor", &floors, net)?;
            rest();
            let told_floor = engines.floor_steps(&floors, net)?;
            rest();
            engines.shutdown("floor", &floors, net)?;
            if round == 0 {
                continue;
            }
            whole.push(took);
            least.push(bare);
            let mut last = 0.0;
            for line in told.lines() {
                let Some((at, step)) = step_of(line) else {
                    continue;
                };
                add(&mut cocker, &step, at - last);
                last = at;
            }
            for line in told_floor.lines() {
                if let Some((step, Ok(nanoseconds))) = line
                    .split_once('\t')
                    .map(|(step, took)| (step, took.parse::<f64>()))
                {
                    add(&mut floor, step, nanoseconds / 1e6);
                }
            }
        }
        Ok(())
    };
    measured()?;
    let median = |samples: &[f64]| spread(samples).map_or(f64::NAN, |spread| spread.median);
    let _ = writeln!(
        text,
        "\n## {title}\n\ncocker **{} ms**, floor **{} ms** (the whole commands, without telling steps): {} × the floor.\n",
        short(median(&whole)),
        short(median(&least)),
        short(median(&whole) / median(&least))
    );
    table(text, "cocker", &cocker);
    table(text, "floor", &floor);
    calls(engines, &ours, net, text)?;
    engines.discard("cocker", &ours);
    let _ = engines.destroy("floor", &floors);
    Ok(())
}

/// Which calls a boot makes how often, and how long they take together.
fn calls(engines: &Engines, name: &str, net: Net, text: &mut String) -> Outcome<()> {
    // Whoever waits for another process spends no time of his own.
    let waits = [
        "read",
        "poll",
        "waitid",
        "wait4",
        "recvmsg",
        "ppoll",
        "exit_group",
        "flock",
    ];
    let (mut times, mut counts): (Steps, Steps) = (Vec::new(), Vec::new());
    for _ in 0..TRACES {
        rest();
        let traced = trace(engines.place, &["boot", name], || {
            rest();
            engines.shutdown("cocker", name, net).map(drop)
        })?;
        let mut of_this: Vec<(String, f64, f64)> = Vec::new();
        let mut client = None;
        for call in traced.calls() {
            let client = *client.get_or_insert(call.pid);
            if call.pid == client && call.text.starts_with("write(1, \"OK") {
                break;
            }
            let text = call.text.strip_prefix("<... ").unwrap_or(call.text);
            let Some(name) = text
                .split(['(', ' '])
                .next()
                .filter(|name| !waits.contains(name))
            else {
                continue;
            };
            let took = call.took.unwrap_or(0.0) * 1e3;
            match of_this.iter_mut().find(|(known, _, _)| known == name) {
                Some((_, count, sum)) => (*count, *sum) = (*count + 1.0, *sum + took),
                None => of_this.push((s(name), 1.0, took)),
            }
        }
        for (name, count, sum) in of_this {
            add(&mut counts, &name, count);
            add(&mut times, &name, sum);
        }
    }
    let median = |samples: &[f64]| spread(samples).map_or(0.0, |spread| spread.median);
    times.sort_by(|one, other| median(&other.1).total_cmp(&median(&one.1)));
    let _ = writeln!(
        text,
        "Calls of cocker's processes until it says OK, by strace ({TRACES} boots, medians; tracing makes each longer), the {SLOWEST} that take \
         longest together. Those that wait for another process are left out.\n\n| call | times | ms |\n|---|---:|---:|"
    );
    for (name, samples) in times.iter().take(SLOWEST) {
        let count = counts
            .iter()
            .find(|(known, _)| known == name)
            .map_or(0.0, |(_, counts)| median(counts));
        let _ = writeln!(
            text,
            "| `{name}` | {count:.0} | {} |",
            short(median(samples))
        );
    }
    Ok(())
}

/// A line of `--debug` that begins with its time.
fn step_of(line: &str) -> Option<(f64, String)> {
    let (time, step) = line.trim_start().split_once(" ms ")?;
    // Pids are not the same twice.
    let step = step.split(';').next().unwrap_or(step).trim_end_matches(':');
    Some((time.parse().ok()?, step.to_string()))
}

fn add(steps: &mut Steps, step: &str, took: f64) {
    match steps.iter_mut().find(|(known, _)| known == step) {
        Some((_, samples)) => samples.push(took),
        None => steps.push((step.to_string(), vec![took])),
    }
}

fn table(text: &mut String, who: &str, steps: &Steps) {
    let _ = writeln!(text, "| {who}: until | ms | |\n|---|---:|---|");
    // Those inside first, as they are told; the others in their order.
    let longest = steps
        .iter()
        .filter_map(|(_, samples)| spread(samples))
        .map(|spread| spread.median)
        .fold(0.0, f64::max);
    for (step, samples) in steps {
        if let Some(spread) = spread(samples) {
            let bar = "█".repeat((spread.median / longest * 20.0).round() as usize);
            let _ = writeln!(
                text,
                "| {step} | {} <sub>{}…{}</sub> | {bar} |",
                short(spread.median),
                short(spread.lower),
                short(spread.upper)
            );
        }
    }
    let _ = writeln!(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_lines_with_a_time() {
        assert_eq!(
            step_of("   1.055 ms namespaces ready"),
            Some((1.055, s("namespaces ready")))
        );
        assert_eq!(
            step_of("  10.256 ms assembled; root process Pid(30920)"),
            Some((10.256, s("assembled")))
        );
        assert_eq!(step_of("   0.715 ms plan:"), Some((0.715, s("plan"))));
        assert_eq!(step_of("mount proc on `/proc`"), None);
    }
}
