//! What `top` shows, and how keys change it: nothing here knows of a terminal.
//!
//! ```text
//!  3 containers  cpu 120.3%  memory 1.2G  by cpu      what there is of all
//!  NAME          CPU%    MEM   PIDS  …                as many columns as there is room for, the sorted one among them
//!  web          100.1   900M      7  …
//!  q quit  / filter  …                                which keys there are, or the filter while it is typed
//! ```

use super::keys::Key;
use crate::listing::stats::{duration, time};
use crate::rates::{self, Rates};
use cocker_engine::{ContainerFigures, Pressure};
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Modifier, Style};
use std::cmp::Ordering;

const KEYS: &str = "q quit  / filter  c cpu  m memory  p pids  i io  n net  a name  t throttled  o oom  u up  r reverse";

/// A name is cut shorter than this only where the whole screen is hardly wider.
const LEAST_NAME: u16 = 12;
/// No name gets more room than this before all columns have theirs.
const USUAL_NAME: u16 = 24;

/// The longest name of a container.
const LONGEST_FILTER: usize = 64;

/// What a key asks of whoever shows the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing but that it is drawn.
    Draw,
    /// Drawn from nothing.
    DrawAnew,
    Leave,
    Stop,
}

/// By what lines are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Cpu,
    Memory,
    Pids,
    Io,
    Net,
    Name,
    Throttled,
    OomKills,
    Uptime,
}

impl Order {
    fn of(key: char) -> Option<Order> {
        Some(match key {
            'c' => Order::Cpu,
            'm' => Order::Memory,
            'p' => Order::Pids,
            'i' => Order::Io,
            'n' => Order::Net,
            'a' => Order::Name,
            't' => Order::Throttled,
            'o' => Order::OomKills,
            'u' => Order::Uptime,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Order::Cpu => "cpu",
            Order::Memory => "memory",
            Order::Pids => "pids",
            Order::Io => "io",
            Order::Net => "net",
            Order::Name => "name",
            Order::Throttled => "throttled",
            Order::OomKills => "oom kills",
            Order::Uptime => "up",
        }
    }
}

/// One container, with what it does in a second.
pub struct Line {
    now: ContainerFigures,
    rates: Rates,
}

/// A column of figures: its title, its width, what lines are ordered by when it is the sorted one, and its text.
struct Column {
    title: &'static str,
    width: u16,
    order: Option<Order>,
    text: fn(&Line) -> Option<String>,
}

/// In the order in which they get room.
const COLUMNS: [Column; 13] = [
    column("CPU%", 7, Some(Order::Cpu), |line| {
        line.rates.cpu.map(|percent| format!("{percent:.1}"))
    }),
    column("MEM", 6, Some(Order::Memory), |line| {
        line.memory().map(compact)
    }),
    column("PIDS", 6, Some(Order::Pids), |line| {
        line.now.figures.pids.map(|it| it.current.to_string())
    }),
    column("READ/s", 7, Some(Order::Io), |line| {
        line.rates.read.map(compact)
    }),
    column("WRITE/s", 7, Some(Order::Io), |line| {
        line.rates.written.map(compact)
    }),
    column("RECV/s", 7, Some(Order::Net), |line| {
        line.rates.received.map(compact)
    }),
    column("SENT/s", 7, Some(Order::Net), |line| {
        line.rates.sent.map(compact)
    }),
    column("LIMIT", 6, None, |line| {
        let memory = line.now.figures.memory?;
        Some(memory.limit.map_or("none".into(), |it| compact(it as f64)))
    }),
    column("CACHE", 6, None, |line| {
        let cache = line.now.figures.memory?.cache?;
        Some(compact(cache as f64))
    }),
    column("OOM", 5, Some(Order::OomKills), |line| {
        line.now.figures.oom_kills.map(|kills| kills.to_string())
    }),
    column("THROTTLED", 9, Some(Order::Throttled), |line| {
        line.now.figures.throttling.map(|it| time(it.throttled))
    }),
    column("UP", 7, Some(Order::Uptime), |line| {
        line.now.uptime().map(duration)
    }),
    // Of processors, memory and disks, as the files of the kernel are named.
    column("PSI c/m/i", 16, None, |line| {
        let figures = &line.now.figures;
        let all = [
            figures.cpu_pressure,
            figures.memory_pressure,
            figures.io_pressure,
        ];
        let text = |pressure: Pressure| {
            let hundredths = f64::from(pressure.some.averages[0]);
            format!("{:.1}", hundredths / 100.0)
        };
        Some(all.map(|it| it.map_or("-".into(), text)).join("/"))
    }),
];

const fn column(
    title: &'static str,
    width: u16,
    order: Option<Order>,
    text: fn(&Line) -> Option<String>,
) -> Column {
    Column {
        title,
        width,
        order,
        text,
    }
}

impl Line {
    /// Without the cache.
    fn memory(&self) -> Option<f64> {
        let memory = self.now.figures.memory?;
        let cache = memory.cache.unwrap_or(0);
        Some(memory.current.saturating_sub(cache) as f64)
    }

    /// None comes last.
    fn figure(&self, order: Order) -> Option<f64> {
        let figures = &self.now.figures;
        let both = |one: Option<f64>, other: Option<f64>| Some(one? + other?);
        match order {
            Order::Cpu => self.rates.cpu,
            Order::Memory => self.memory(),
            Order::Pids => figures.pids.map(|it| it.current as f64),
            Order::Io => both(self.rates.read, self.rates.written),
            Order::Net => both(self.rates.received, self.rates.sent),
            Order::Name => None,
            Order::Throttled => figures.throttling.map(|it| it.throttled as f64),
            Order::OomKills => figures.oom_kills.map(|kills| kills as f64),
            Order::Uptime => self.now.uptime().map(|it| it.as_secs_f64()),
        }
    }
}

/// What is shown, and how.
pub struct View {
    /// By name.
    lines: Vec<Line>,
    order: Order,
    is_reversed: bool,
    /// Only names with this in them.
    filter: String,
    is_typing: bool,
    /// How many lines are above the first that is shown.
    skipped: usize,
    /// How many lines the screen showed last.
    room: usize,
}

impl View {
    /// What has been used since each container was booted: there is no look before this one.
    pub fn new(first: Vec<ContainerFigures>) -> View {
        View {
            lines: first.into_iter().map(since_boot).collect(),
            order: Order::Cpu,
            is_reversed: false,
            filter: String::new(),
            is_typing: false,
            skipped: 0,
            room: 1,
        }
    }

    /// Takes another look, with what was used since the last one.
    pub fn take(&mut self, now: Vec<ContainerFigures>) {
        let before = std::mem::take(&mut self.lines);
        let line = |now: ContainerFigures| {
            let place = before.binary_search_by(|line| line.now.name.cmp(&now.name));
            let before = place.ok().map(|place| &before[place].now);
            match before.filter(|before| before.pid == now.pid) {
                Some(before) => Line {
                    rates: Rates::between(before, &now),
                    now,
                },
                None => since_boot(now),
            }
        };
        self.lines = now.into_iter().map(line).collect();
    }

    /// Does what a key says.
    pub fn obey(&mut self, key: Key) -> Wish {
        match key {
            Key::Control('c') => return Wish::Leave,
            Key::Control('z') => return Wish::Stop,
            Key::Control('l') => return Wish::DrawAnew,
            Key::Up => self.skipped = self.skipped.saturating_sub(1),
            Key::Down => self.skipped += 1,
            Key::PageUp => self.skipped = self.skipped.saturating_sub(self.room),
            Key::PageDown => self.skipped += self.room,
            Key::Home => self.skipped = 0,
            Key::End => self.skipped = self.lines.len(),
            key if self.is_typing => self.edit_filter(key),
            Key::Escape | Key::Character('q') => return Wish::Leave,
            Key::Character('/') => self.is_typing = true,
            Key::Character('r') => self.is_reversed = !self.is_reversed,
            Key::Character(key) => {
                if let Some(order) = Order::of(key) {
                    self.order = order;
                    self.is_reversed = false;
                    self.skipped = 0;
                }
            }
            Key::Enter | Key::Backspace | Key::Control(_) => {}
        }
        Wish::Draw
    }

    fn edit_filter(&mut self, key: Key) {
        self.skipped = 0;
        match key {
            Key::Enter => self.is_typing = false,
            Key::Escape => {
                self.is_typing = false;
                self.filter.clear();
            }
            Key::Backspace => drop(self.filter.pop()),
            Key::Character(character) if self.filter.len() < LONGEST_FILTER => {
                self.filter.push(character);
            }
            _ => {}
        }
    }

    /// Draws all of it on a buffer that is empty.
    pub fn draw(&mut self, buffer: &mut Buffer) {
        let Rect { width, height, .. } = buffer.area;
        if width == 0 || height == 0 {
            return;
        }
        let mut lines = shown(&self.lines, &self.filter);
        lines.sort_by(|one, other| compared(one, other, self.order, self.is_reversed));

        // Lines of containers come first, and the frame around them only where it leaves room for some.
        let (has_title, has_keys) = (height >= 4, height >= 5);
        let first = u16::from(has_title);
        self.room = usize::from(height - first - u16::from(has_keys)).saturating_sub(1);
        self.skipped = self.skipped.min(lines.len().saturating_sub(self.room));
        if has_title {
            put(buffer, 0, 0, width, &self.title(&lines), Style::new());
        }
        if has_keys {
            let keys = match self.is_typing {
                true => format!("filter: {}_   Enter keeps it, Esc drops it", self.filter),
                false => KEYS.into(),
            };
            let dim = Style::new().add_modifier(Modifier::REVERSED);
            put(buffer, 0, height - 1, width, &padded(&keys, width), dim);
        }
        let longest = lines.iter().map(|line| line.now.name.as_str().len()).max();
        let columns = fitting(width, self.order);
        let taken: u16 = columns.iter().map(|column| column.width + 1).sum();
        let longest = u16::try_from(longest.unwrap_or(0)).unwrap_or(u16::MAX);
        let name_width = longest.max(LEAST_NAME).min(width.saturating_sub(taken));
        self.draw_titles(buffer, first, name_width, &columns);
        let visible = lines.iter().skip(self.skipped).take(self.room);
        for (y, line) in (first + 1..height).zip(visible) {
            put(
                buffer,
                0,
                y,
                name_width,
                line.now.name.as_str(),
                Style::new(),
            );
            let mut x = name_width;
            for column in &columns {
                let text = (column.text)(line).unwrap_or_else(|| "-".into());
                put_right(buffer, x + 1, y, column.width, &text, Style::new());
                x += column.width + 1;
            }
        }
    }

    /// The sorted column's title stands out of the others.
    fn draw_titles(&self, buffer: &mut Buffer, y: u16, name_width: u16, columns: &[&Column]) {
        let style = |is_sorted| match is_sorted {
            true => Style::new()
                .add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
                .remove_modifier(Modifier::REVERSED),
            false => Style::new().add_modifier(Modifier::REVERSED),
        };
        let width = buffer.area.width;
        put(buffer, 0, y, width, &padded("", width), style(false));
        let title = padded("NAME", name_width);
        put(
            buffer,
            0,
            y,
            name_width,
            &title,
            style(self.order == Order::Name),
        );
        let mut x = name_width;
        for column in columns {
            let is_sorted = column.order == Some(self.order);
            put_right(
                buffer,
                x + 1,
                y,
                column.width,
                column.title,
                style(is_sorted),
            );
            x += column.width + 1;
        }
    }

    fn title(&self, lines: &[&Line]) -> String {
        let sum = |figure: fn(&Line) -> Option<f64>| -> Option<f64> {
            lines
                .iter()
                .filter_map(|line| figure(line))
                .reduce(|sum, it| sum + it)
        };
        let cpu = sum(|line| line.rates.cpu);
        let memory = sum(Line::memory);
        let mut title = match lines.len() {
            1 => "1 container".to_string(),
            count => format!("{count} containers"),
        };
        if !self.filter.is_empty() {
            title += &format!(" of {} with `{}`", self.lines.len(), self.filter);
        }
        title += &cpu.map_or(String::new(), |percent| format!("  cpu {percent:.1}%"));
        title += &memory.map_or(String::new(), |bytes| {
            format!("  memory {}", compact(bytes))
        });
        title += "  by ";
        title += self.order.name();
        title + if self.is_reversed { ", reversed" } else { "" }
    }
}

fn since_boot(now: ContainerFigures) -> Line {
    let rates = Rates {
        cpu: rates::cpu_since_boot(&now),
        ..Rates::default()
    };
    Line { now, rates }
}

fn shown<'a>(lines: &'a [Line], filter: &str) -> Vec<&'a Line> {
    let lines = lines.iter();
    lines
        .filter(|line| line.now.name.as_str().contains(filter))
        .collect()
}

/// The largest first and names from A on, or the other way round. What is not counted comes last in any case.
fn compared(one: &Line, other: &Line, order: Order, is_reversed: bool) -> Ordering {
    let names = || one.now.name.cmp(&other.now.name);
    let turned = |ordering: Ordering| match is_reversed {
        true => ordering.reverse(),
        false => ordering,
    };
    if order == Order::Name {
        return turned(names());
    }
    match (one.figure(order), other.figure(order)) {
        (Some(one), Some(other)) => turned(other.total_cmp(&one)).then_with(names),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => names(),
    }
}

/// The columns that there is room for beside a name, the sorted one first to be chosen; in their usual order.
fn fitting(width: u16, order: Order) -> Vec<&'static Column> {
    let mut left = width.saturating_sub((width / 4).clamp(LEAST_NAME, USUAL_NAME));
    let mut chosen = [false; COLUMNS.len()];
    let is_sorted = |column: &Column| column.order == Some(order);
    for round in [true, false] {
        for (column, chosen) in COLUMNS.iter().zip(&mut chosen) {
            let needed = column.width + 1;
            if is_sorted(column) == round && needed <= left {
                *chosen = true;
                left -= needed;
            } else if !round && !*chosen {
                // A less important one does not take the place of one that has none.
                left = 0;
            }
        }
    }
    let chosen = COLUMNS.iter().zip(chosen);
    chosen
        .filter(|(_, chosen)| *chosen)
        .map(|(column, _)| column)
        .collect()
}

fn put(buffer: &mut Buffer, x: u16, y: u16, width: u16, text: &str, style: Style) {
    buffer.set_stringn(x, y, text, width.into(), style);
}

fn put_right(buffer: &mut Buffer, x: u16, y: u16, width: u16, text: &str, style: Style) {
    let length = u16::try_from(text.chars().count()).unwrap_or(u16::MAX);
    let indent = width.saturating_sub(length);
    put(buffer, x + indent, y, width - indent, text, style);
}

fn padded(text: &str, width: u16) -> String {
    format!("{text:<width$}", width = width.into())
}

/// `512`, `9.8K`, `24M`: at most five characters up to petabytes.
fn compact(amount: f64) -> String {
    const UNITS: [&str; 6] = ["", "K", "M", "G", "T", "P"];
    let mut amount = amount;
    for unit in UNITS {
        match amount {
            ..9.95 if !unit.is_empty() => return format!("{amount:.1}{unit}"),
            ..1023.5 => return format!("{amount:.0}{unit}"),
            _ => amount /= 1024.0,
        }
    }
    format!("{:.0}E", amount)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rates::of_test;
    use cocker_engine::{MemoryUse, PidsUse};
    use std::time::Duration;

    fn figures() -> Vec<ContainerFigures> {
        let mut all: Vec<ContainerFigures> =
            [("db", 20), ("idle", 0), ("web-server-of-the-shop", 300)]
                .into_iter()
                .map(|(name, cpu)| of_test(name, cpu))
                .collect();
        for (number, one) in all.iter_mut().enumerate() {
            let number = number as u64 + 1;
            one.figures.memory = Some(MemoryUse {
                current: number * (30 << 20),
                cache: Some(10 << 20),
                limit: None,
            });
            one.figures.pids = Some(PidsUse {
                current: 10 / number,
                limit: None,
            });
        }
        all
    }

    fn screen(view: &mut View, width: u16, height: u16) -> Vec<String> {
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
        view.draw(&mut buffer);
        let row = |y| {
            let cells = (0..width).map(|x| buffer[(x, y)].symbol());
            cells.collect::<String>().trim_end().to_string()
        };
        (0..height).map(row).collect()
    }

    fn names(view: &mut View) -> Vec<String> {
        let screen = screen(view, 80, 24);
        let lines = screen[2..23].iter().filter(|line| !line.is_empty());
        let name = |line: &String| line.split_whitespace().next().expect("a name").to_string();
        lines.map(name).collect()
    }

    #[test]
    fn on_a_usual_screen_the_busiest_comes_first() {
        let mut view = View::new(figures());
        let screen = screen(&mut view, 80, 24);
        assert_eq!(screen[0], "3 containers  cpu 320.0%  memory 150M  by cpu");
        assert_eq!(
            screen[1],
            "NAME                      CPU%    MEM   PIDS  READ/s WRITE/s  RECV/s  SENT/s"
        );
        assert_eq!(
            screen[2],
            "web-server-of-the-shop   300.0    80M      3       -       -       -       -"
        );
        assert!(screen[3].starts_with("db ") && screen[4].starts_with("idle "));
        assert!(screen[5..23].iter().all(String::is_empty));
        assert!(screen[23].starts_with("q quit  / filter  c cpu"));
    }

    #[test]
    fn a_small_screen_has_the_name_and_the_sorted_column() {
        let mut view = View::new(figures());
        let small = screen(&mut view, 20, 5);
        assert_eq!(small[1], "NAME            CPU%");
        assert_eq!(small[2], "web-server-o   300.0");
        assert_eq!(small[3], "db              20.0");
        assert_eq!(small[4], "q quit  / filter  c");
        view.obey(Key::Character('m'));
        let small = screen(&mut view, 20, 5);
        assert_eq!(small[1], "NAME             MEM");
        assert_eq!(small[2], "web-server-of    80M");
        for (width, height) in (0..30).flat_map(|width| (0..8).map(move |height| (width, height))) {
            for key in "cmpinatou".chars() {
                view.obey(Key::Character(key));
                screen(&mut view, width, height);
            }
        }
        let least = screen(&mut view, 20, 2);
        assert!(least[0].starts_with("NAME") && !least[1].is_empty());
    }

    #[test]
    fn a_wide_screen_has_everything() {
        let mut view = View::new(figures());
        let titles = &screen(&mut view, 200, 10)[1];
        for column in &COLUMNS {
            assert!(titles.contains(column.title), "{}", column.title);
        }
        assert!(screen(&mut view, 200, 10)[2].contains("web-server-of-the-shop"));
    }

    #[test]
    fn each_key_sorts_and_r_turns_the_order() {
        let mut view = View::new(figures());
        assert_eq!(names(&mut view), ["web-server-of-the-shop", "db", "idle"]);
        for (key, first, last) in [
            ('m', "web", "db"),
            ('p', "db", "web"),
            ('a', "db", "web"),
            ('c', "web", "idle"),
        ] {
            assert_eq!(view.obey(Key::Character(key)), Wish::Draw);
            let shown = names(&mut view);
            assert!(
                shown[0].starts_with(first) && shown[2].starts_with(last),
                "{key}: {shown:?}"
            );
            view.obey(Key::Character('r'));
            let turned = names(&mut view);
            assert!(
                turned[0].starts_with(last) && turned[2].starts_with(first),
                "{key}: {turned:?}"
            );
        }
        // What nobody counts is no order.
        view.obey(Key::Character('n'));
        assert!(names(&mut view)[0].starts_with("db"));
    }

    #[test]
    fn a_filter_is_typed_kept_and_dropped() {
        let mut view = View::new(figures());
        view.obey(Key::Character('/'));
        for key in "dq".chars() {
            assert_eq!(view.obey(Key::Character(key)), Wish::Draw);
        }
        assert!(names(&mut view).is_empty());
        view.obey(Key::Backspace);
        assert!(screen(&mut view, 80, 24)[23].starts_with("filter: d_"));
        view.obey(Key::Enter);
        let shown = screen(&mut view, 80, 24);
        assert!(
            shown[0].starts_with("2 containers of 3 with `d`"),
            "{}",
            shown[0]
        );
        view.obey(Key::Character('/'));
        view.obey(Key::Escape);
        assert_eq!(names(&mut view).len(), 3);
        assert_eq!(view.obey(Key::Escape), Wish::Leave);
        assert_eq!(view.obey(Key::Character('q')), Wish::Leave);
        assert_eq!(view.obey(Key::Control('c')), Wish::Leave);
    }

    #[test]
    fn lines_that_do_not_fit_are_scrolled_to() {
        let many = (0..1_000).map(|number| of_test(&format!("c{number:04}"), 0));
        let mut view = View::new(many.collect());
        let first = |view: &mut View| screen(view, 80, 24)[2].split(' ').next().map(String::from);
        assert_eq!(first(&mut view).as_deref(), Some("c0000"));
        view.obey(Key::Down);
        assert_eq!(first(&mut view).as_deref(), Some("c0001"));
        view.obey(Key::PageDown);
        assert_eq!(first(&mut view).as_deref(), Some("c0022"));
        view.obey(Key::End);
        assert_eq!(first(&mut view).as_deref(), Some("c0979"));
        view.obey(Key::PageUp);
        assert_eq!(first(&mut view).as_deref(), Some("c0958"));
        view.obey(Key::Home);
        view.obey(Key::Up);
        assert_eq!(first(&mut view).as_deref(), Some("c0000"));
    }

    #[test]
    fn a_second_look_shows_what_happened_since_the_first() {
        let mut view = View::new(figures());
        let mut now = figures();
        for one in &mut now {
            one.taken += Duration::from_secs(2);
        }
        now[0].figures.cpu = of_test("db", 21).figures.cpu;
        now.remove(1);
        view.take(now);
        let shown = screen(&mut view, 80, 24);
        assert!(
            shown[2].starts_with("db ") && shown[2].contains(" 50.0 "),
            "{}",
            shown[2]
        );
        assert!(shown[3].contains(" 0.0 ") && shown[4].is_empty());
    }

    #[test]
    fn amounts_are_short() {
        let told = [
            0.0,
            9.4,
            1023.0,
            1024.0,
            10_188.0,
            24.0 * 1_048_576.0,
            1_048_000.0,
            1e15,
            1.8e19,
        ]
        .map(compact);
        assert_eq!(
            told,
            [
                "0", "9", "1023", "1.0K", "9.9K", "24M", "1023K", "909T", "16E"
            ]
        );
    }
}
