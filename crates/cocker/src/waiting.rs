//! Said while a lock is waited for: who holds it. On stderr, terminal or not: a script that hangs should say why.

use crate::escape::escape;
use crate::output;
use cocker_engine::Holder;
use std::path::Path;

/// Every command says so from now on.
pub fn tell() {
    cocker_engine::tell_of_waiting(say);
}

fn say(file: &Path, holders: &[Holder]) {
    output::complain(&text(file, holders));
}

fn text(file: &Path, holders: &[Holder]) -> String {
    let file = escape(&file.to_string_lossy()).into_owned();
    let mut text = match holders {
        [] => format!("Waiting for `{file}`, which another process has locked\n"),
        holders => {
            let named = holders.iter().map(|Holder { pid, command }| {
                let command = escape(command);
                format!("process {pid} (`{command}`)")
            });
            let named: Vec<String> = named.collect();
            format!("Waiting for `{file}`, locked by {}\n", named.join(", "))
        }
    };
    text.push_str("Hint: it goes on when that ends; control-C ends the waiting.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_whoever_holds_it_and_shows_no_control_character() {
        let file = Path::new("/var/cocker/containers/web");
        let holder = |pid, command: &str| Holder {
            pid,
            command: command.into(),
        };
        assert!(text(file, &[]).starts_with("Waiting for `/var/cocker/containers/web`, which"));
        let said = text(file, &[holder(7, "cocker boot web"), holder(8, "\x1b[2J")]);
        let first = said.lines().next().unwrap();
        assert!(
            first.ends_with(r"locked by process 7 (`cocker boot web`), process 8 (`\u{1b}[2J`)"),
            "{first}"
        );
    }
}
