//! What a dry run shows of a file: the lines that differ, as diff -u has it, so that patch(1) can read it.

use cocker_engine::{InstanceChange, InstancePreview};
use similar::{Algorithm, DiffOp, DiffTag, capture_diff_slices_deadline, group_diff_ops};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Lines around those that differ.
const CONTEXT: usize = 3;

/// The least difference is looked for so long; then one is good enough.
const PATIENCE: Duration = Duration::from_secs(2);

/// Nothing where nothing would be changed.
pub fn of(preview: &InstancePreview) -> Vec<u8> {
    match &preview.change {
        InstanceChange::Texts { before, after } => texts(&preview.path, before.as_deref(), after),
        InstanceChange::Sizes {
            before,
            after,
            replaced,
        } => {
            let keys = if *replaced == 1 { "key is" } else { "keys are" };
            let path = preview.path.as_os_str().as_bytes();
            let told = format!(
                ": too large to be compared; {replaced} {keys} replaced, and {before} bytes become {after}\n"
            );
            [path, told.as_bytes()].concat()
        }
    }
}

fn texts(path: &Path, before: Option<&[u8]>, after: &[u8]) -> Vec<u8> {
    let path = path.as_os_str().as_bytes();
    if before == Some(after) {
        return Vec::new();
    }
    let (old, new) = (lines(before.unwrap_or_default()), lines(after));
    let deadline = Instant::now() + PATIENCE;
    let changes = capture_diff_slices_deadline(Algorithm::Myers, &old, &new, Some(deadline));
    let old_path: &[u8] = if before.is_some() { path } else { b"/dev/null" };
    let mut told = [b"--- ", old_path, b"\n+++ ", path, b"\n"].concat();
    for group in group_diff_ops(changes, CONTEXT) {
        tell(&group, &old, &new, &mut told);
    }
    told
}

fn tell(group: &[DiffOp], old: &[&[u8]], new: &[&[u8]], told: &mut Vec<u8>) {
    let (Some(first), Some(last)) = (group.first(), group.last()) else {
        return;
    };
    let old_range = range(first.old_range().start, last.old_range().end);
    let new_range = range(first.new_range().start, last.new_range().end);
    told.extend_from_slice(format!("@@ -{old_range} +{new_range} @@\n").as_bytes());
    for change in group {
        if change.tag() == DiffTag::Equal {
            old[change.old_range()]
                .iter()
                .for_each(|line| tell_line(b' ', line, told));
            continue;
        }
        old[change.old_range()]
            .iter()
            .for_each(|line| tell_line(b'-', line, told));
        new[change.new_range()]
            .iter()
            .for_each(|line| tell_line(b'+', line, told));
    }
}

/// From a line, counted from 1, so many; of none the line before.
fn range(start: usize, end: usize) -> String {
    match end - start {
        0 => format!("{start},0"),
        1 => format!("{}", start + 1),
        count => format!("{},{count}", start + 1),
    }
}

fn tell_line(mark: u8, line: &[u8], told: &mut Vec<u8>) {
    told.push(mark);
    told.extend_from_slice(line);
    if !line.ends_with(b"\n") {
        told.extend_from_slice(b"\n\\ No newline at end of file\n");
    }
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|&byte| byte == b'\n').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(before: Option<&str>, after: &str) -> String {
        let preview = InstancePreview {
            path: "/etc/a".into(),
            change: InstanceChange::Texts {
                before: before.map(Into::into),
                after: after.into(),
            },
        };
        String::from_utf8(of(&preview)).unwrap()
    }

    #[test]
    fn lines_that_differ_are_shown_as_diff_does() {
        assert_eq!(shown(Some("a\n"), "a\n"), "");
        assert_eq!(
            shown(
                Some("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n"),
                "1\n2\n3\n4\nx\ny\n6\n7\n8\n9\n10\n"
            ),
            "--- /etc/a\n+++ /etc/a\n@@ -2,7 +2,8 @@\n 2\n 3\n 4\n-5\n+x\n+y\n 6\n 7\n 8\n"
        );
        assert_eq!(
            shown(None, "a\n"),
            "--- /dev/null\n+++ /etc/a\n@@ -0,0 +1 @@\n+a\n"
        );
        assert_eq!(
            shown(Some("a"), ""),
            "--- /etc/a\n+++ /etc/a\n@@ -1 +0,0 @@\n-a\n\\ No newline at end of file\n"
        );
        assert_eq!(shown(None, ""), "--- /dev/null\n+++ /etc/a\n");
    }

    #[test]
    fn of_large_files_sizes_are_shown() {
        let preview = |before, replaced| InstancePreview {
            path: "/big".into(),
            change: InstanceChange::Sizes {
                before,
                after: 7,
                replaced,
            },
        };
        assert_eq!(
            of(&preview(9, 1)),
            b"/big: too large to be compared; 1 key is replaced, and 9 bytes become 7\n"
        );
        assert_eq!(
            of(&preview(7, 0)),
            b"/big: too large to be compared; 0 keys are replaced, and 7 bytes become 7\n"
        );
    }
}
