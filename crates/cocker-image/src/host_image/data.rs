//! Files of the host that many programs read: the loader's settings, terminal descriptions, the locale, names of
//! protocols. All of them are optional. Nothing that says who the host is, or that is secret, is taken.

use std::path::{Path, PathBuf};

use super::{
    host::{Found, Host},
    plan::Plan,
};

/// Folders that a distribution may have merged into others by a link.
const MERGED_FOLDERS: [&str; 9] = [
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/usr/lib64",
    "/usr/sbin",
    "/usr/lib",
];

/// With the loader's index, libraries in unusual folders are found; an entry for a file that is not in the image does
/// no harm.
const LOADER_SETTINGS: [&str; 3] = ["/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d"];

const PROTOCOL_NAMES: [&str; 2] = ["/etc/protocols", "/etc/services"];

/// glibc looks for C.UTF-8 in a folder; it is not built in.
const LOCALES: [&str; 2] = ["/usr/lib/locale/C.UTF-8", "/usr/lib/locale/C.utf8"];

const TERMINFO_FOLDERS: [&str; 4] = [
    "/etc/terminfo",
    "/lib/terminfo",
    "/usr/share/terminfo",
    "/usr/lib/terminfo",
];

const TERMINALS: [&str; 26] = [
    "Eterm",
    "alacritty",
    "ansi",
    "cygwin",
    "dumb",
    "foot",
    "foot-direct",
    "konsole",
    "linux",
    "rxvt",
    "rxvt-256color",
    "rxvt-unicode",
    "rxvt-unicode-256color",
    "screen",
    "screen-256color",
    "tmux",
    "tmux-256color",
    "tmux-direct",
    "vt100",
    "vt102",
    "vt220",
    "xterm",
    "xterm-256color",
    "xterm-color",
    "xterm-direct",
    "xterm-kitty",
];

/// Folders of data are no deeper than this.
const DEPTH_AT_MOST: u32 = 4;

/// Adds what `host` has of these files.
pub(super) fn add(host: &Host, plan: &mut Plan) {
    for folder in MERGED_FOLDERS {
        add_if_there(host, Path::new(folder), plan);
    }
    for path in LOADER_SETTINGS
        .iter()
        .chain(&PROTOCOL_NAMES)
        .chain(&LOCALES)
    {
        add_tree(host, Path::new(path), DEPTH_AT_MOST, plan);
    }
    add_musl_settings(host, plan);
    for terminal in TERMINALS {
        add_terminal(host, terminal, plan);
    }
}

/// musl's loader has one settings file for each architecture: `ld-musl-x86_64.path`.
fn add_musl_settings(host: &Host, plan: &mut Plan) {
    for name in host.names(Path::new("/etc")) {
        let text = name.to_string_lossy();
        if text.starts_with("ld-musl-") && text.ends_with(".path") {
            add_if_there(host, &Path::new("/etc").join(&name), plan);
        }
    }
}

/// The description that ncurses would take: that of the first folder that has one, under the first letter of its
/// name or, where file systems do not tell `A` from `a`, under the letter's number.
fn add_terminal(host: &Host, terminal: &str, plan: &mut Plan) {
    let Some(letter) = terminal.chars().next() else {
        return;
    };
    let drawers = [letter.to_string(), format!("{:x}", u32::from(letter))];
    let mut places = TERMINFO_FOLDERS.iter().flat_map(|folder| {
        drawers
            .iter()
            .map(move |drawer| Path::new(folder).join(drawer).join(terminal))
    });
    places.find(|place| add_if_there(host, place, plan));
}

fn add_tree(host: &Host, path: &Path, depth: u32, plan: &mut Plan) {
    let Ok(trail) = host.follow(path) else {
        return;
    };
    plan.add_trail(&trail);
    if trail.found != Found::Folder || depth == 0 {
        return;
    }
    let inside: Vec<PathBuf> = host
        .names(&trail.end)
        .iter()
        .map(|name| trail.end.join(name))
        .collect();
    for path in inside {
        add_tree(host, &path, depth - 1, plan);
    }
}

fn add_if_there(host: &Host, path: &Path, plan: &mut Plan) -> bool {
    let trail = host.follow(path);
    if let Ok(trail) = &trail {
        plan.add_trail(trail);
    }
    trail.is_ok()
}
