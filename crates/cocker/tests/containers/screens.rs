//! Programs that draw on a whole terminal, driven as by a user, in a Debian.

use crate::host::{Host, Terminal, with_image_test};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        an_editor_draws_is_left_and_comes_back,
        a_pager_and_a_process_viewer_draw_and_leave,
        every_new_size_is_known_inside,
        colours_pass_unchanged,
        a_paste_is_bracketed,
        wide_characters_are_typed_and_erased,
        ten_megabytes_of_text_arrive_whole,
        a_terminal_is_usable_after_binary_noise,
    ]
}

#[track_caller]
fn debian(host: &Host) -> Terminal {
    host.add_image_debian();
    host.cocker("-a create -m debian -c vps").ok();
    host.cocker("-a boot -c vps").ok();
    host.inside("vps", "echo \"PS1='ready> '\" > /root/.bashrc; rm -f /root/.profile; echo '. /root/.bashrc' > /root/.profile");
    attached(host, "attach vps")
}

#[track_caller]
fn attached(host: &Host, line: &str) -> Terminal {
    let mut terminal = host.terminal_of(line, "xterm-256color");
    terminal.resize(24, 80);
    terminal.until_drawn("the prompt", is_prompting);
    terminal
}

fn is_prompting(screen: &vt100::Screen) -> bool {
    screen.contents().trim_end().ends_with("ready>")
}

fn row(screen: &vt100::Screen, row: u16) -> String {
    let (_, columns) = screen.size();
    screen.contents_between(row, 0, row, columns.get())
}

fn an_editor_draws_is_left_and_comes_back(host: &Host) {
    let mut terminal = debian(host);
    terminal.type_line("vim.tiny /root/letter");
    terminal.until_drawn("an empty buffer", |screen| {
        screen.alternate_screen() && row(screen, 1).starts_with('~')
    });
    terminal.type_keys("iDear reader\x1b");
    terminal.until_drawn("the text", |screen| row(screen, 0) == "Dear reader");
    // The window is closed with the editor in it; whoever comes back finds it drawn.
    terminal.close_window();
    let mut terminal = host.terminal_of("attach vps", "xterm-256color");
    terminal.until_drawn("the editor again", |screen| {
        screen.alternate_screen()
            && row(screen, 0) == "Dear reader"
            && row(screen, 1).starts_with('~')
    });
    // In a window of another size, it draws itself for that.
    terminal.resize(12, 60);
    terminal.until_drawn("a smaller editor", |screen| {
        let ruler = row(screen, 11);
        row(screen, 0) == "Dear reader" && ruler.contains("All") && !ruler.contains("INSERT")
    });
    // Ctrl-Z and back.
    terminal.type_keys("\x1a");
    terminal.until_drawn("the shell", |screen| {
        !screen.alternate_screen() && is_prompting(screen)
    });
    terminal.type_line("fg");
    terminal.until_drawn("the editor", |screen| {
        screen.alternate_screen() && row(screen, 0) == "Dear reader"
    });
    terminal.type_line("\x1b:wq");
    terminal.until_drawn("the shell", |screen| {
        !screen.alternate_screen() && is_prompting(screen)
    });
    assert_eq!(host.inside("vps", "cat /root/letter"), "Dear reader");
    terminal.type_line("exit");
    terminal.exits(0);
    assert!(!terminal.drawn().alternate_screen());
}

fn a_pager_and_a_process_viewer_draw_and_leave(host: &Host) {
    let mut terminal = debian(host);
    terminal.type_line("seq 1 500 | less");
    terminal.until_drawn("the first page", |screen| {
        row(screen, 0) == "1" && row(screen, 22) == "23"
    });
    terminal.type_keys("G");
    terminal.until_drawn("the last page", |screen| row(screen, 22) == "500");
    terminal.type_keys("q");
    terminal.until_drawn("the shell", is_prompting);
    terminal.type_line("top");
    terminal.until_drawn("the processes", |screen| {
        let contents = screen.contents();
        contents.contains("PID USER") && contents.contains("cockeri")
    });
    terminal.type_keys("q");
    terminal.until_drawn("the shell", is_prompting);
    // Ctrl-C ends what runs in front. What is left of the first one shall not be taken for it.
    terminal.type_line("clear");
    terminal.until_drawn("an empty screen", |screen| {
        is_prompting(screen) && !screen.contents().contains("PID USER")
    });
    terminal.type_line("top -d 100");
    terminal.until_drawn("the processes", |screen| {
        screen.contents().contains("PID USER")
    });
    terminal.type_keys("\x03");
    terminal.until_drawn("the shell", is_prompting);
}

fn every_new_size_is_known_inside(host: &Host) {
    let mut terminal = debian(host);
    for (rows, columns) in [(30, 100), (10, 40), (60, 250), (24, 80)] {
        terminal.resize(rows, columns);
        let size = format!("{rows} {columns}");
        terminal.type_line(&format!(
            "until [ \"$(stty size)\" = \"{size}\" ]; do sleep 0.01; done; clear; echo now $(stty size)"
        ));
        terminal.until_drawn("the size", |screen| {
            screen.contents().contains(&format!("now {size}"))
        });
    }
}

fn colours_pass_unchanged(host: &Host) {
    let mut terminal = debian(host);
    terminal.type_line(r"clear; printf '\033[38;2;18;52;86mC\033[48;5;200mD\033[0m\n'");
    terminal.until_drawn("24 bits of colour", |screen| {
        let colours = |column| {
            let cell = screen.cell(0, column)?;
            Some((cell.contents().to_string(), cell.fgcolor(), cell.bgcolor()))
        };
        let rgb = vt100::Color::Rgb(18, 52, 86);
        colours(0) == Some(("C".into(), rgb, vt100::Color::Default))
            && colours(1) == Some(("D".into(), rgb, vt100::Color::Idx(200)))
    });
}

fn a_paste_is_bracketed(host: &Host) {
    let mut terminal = debian(host);
    terminal.until_drawn("the mode", vt100::Screen::bracketed_paste);
    // A newline in it executes nothing.
    terminal.type_keys("\x1b[200~echo one\necho two\x1b[201~");
    terminal.until_drawn("both lines, unexecuted", |screen| {
        screen.contents().trim_end().ends_with("echo one\necho two")
    });
    terminal.type_keys("\r");
    terminal.until_drawn("both answers", |screen| {
        screen.contents().contains("\none\ntwo\n")
    });
}

fn wide_characters_are_typed_and_erased(host: &Host) {
    let mut terminal = debian(host);
    terminal.type_line("clear; cat");
    terminal.until_drawn("an empty screen", |screen| screen.contents().is_empty());
    // The terminal's own line editor erases the character, and not one of its bytes.
    terminal.type_line("中文輸\x7f入");
    terminal.until_drawn("what is left of the line", |screen| {
        screen.contents().lines().any(|line| line == "中文入")
    });
    terminal.type_keys("\x04");
    terminal.until_drawn("the shell", is_prompting);
}

fn ten_megabytes_of_text_arrive_whole(host: &Host) {
    let mut terminal = debian(host);
    terminal.type_line(
        "yes 0123456789abcdefghijklmnopqrstuvwxyz | head -c 10000000 > /tmp/text; echo; echo made",
    );
    terminal.expect("\r\nmade\r\n");
    // What is typed ahead of a prompt is shown twice.
    terminal.expect("ready> ");
    terminal.type_line("cat /tmp/text; echo; echo shown");
    terminal.expect("echo shown\r\n");
    terminal.expect("\r");
    let text = terminal.expect("\r\nshown\r\n");
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let (whole, rest) = lines.split_at(10_000_000 / 37);
    let alphabet = "0123456789abcdefghijklmnopqrstuvwxyz";
    assert!(whole.iter().all(|line| *line == alphabet));
    assert_eq!(rest.concat().len(), 10_000_000 % 37);
}

fn a_terminal_is_usable_after_binary_noise(host: &Host) {
    let mut terminal = debian(host);
    terminal.type_line(
        "head -c 200000 /dev/urandom; printf '\\016\\033(0\\033[?25l'; echo; echo noise is over",
    );
    terminal.expect("noise is over");
    terminal.expect("noise is over");
    terminal.type_line("reset");
    terminal.type_line("clear");
    terminal.type_line("echo usable");
    terminal.until_drawn("an orderly screen", |screen| {
        let contents = screen.contents();
        contents.contains("\nusable\n") && is_prompting(screen) && !screen.hide_cursor()
    });
    terminal.type_line("exit");
    terminal.exits(0);
}
