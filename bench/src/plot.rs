//! One plot per row: a bar to each median, a line over the middle half of the samples. Plain SVG, no crate.

use crate::figures::{Cell, Row, Spread, short, spread};
use std::fmt::Write as _;

const LEFT: f64 = 150.0;
const WIDTH: f64 = 480.0;
const LINE: f64 = 26.0;
const TOP: f64 = 54.0;

pub fn svg(row: &Row, subjects: &[&'static str]) -> String {
    let bars: Vec<(&str, Spread)> = subjects
        .iter()
        .filter_map(|subject| match row.cells.get(subject)? {
            Cell::Samples(samples) => Some((*subject, spread(samples)?)),
            Cell::Why(_) => None,
        })
        .collect();
    let most = bars
        .iter()
        .map(|(_, spread)| spread.upper)
        .fold(f64::MIN_POSITIVE, f64::max);
    let least = bars
        .iter()
        .map(|(_, spread)| spread.lower.max(f64::MIN_POSITIVE))
        .fold(most, f64::min);
    // Engines differ by orders: then each step is ten times the one before.
    let logarithmic = most / least > 20.0;
    let start = 10f64.powf(least.log10().floor());
    let place = |value: f64| {
        let part = if logarithmic {
            (value.max(start) / start).log10() / (most / start).log10()
        } else {
            value / most
        };
        LEFT + WIDTH * part
    };
    let height = TOP + LINE * bars.len() as f64 + 30.0;
    let better = if row.higher_is_better {
        "more is better"
    } else {
        "less is better"
    };
    let scale = if logarithmic { ", logarithmic" } else { "" };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"780\" height=\"{height}\" viewBox=\"0 0 780 {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"15\" font-weight=\"bold\">{}</text>\n\
         <text x=\"12\" y=\"40\" fill=\"#666\">{}, {better}{scale}; bar: median, line: middle half of the samples</text>\n",
        escaped(&row.title),
        row.unit
    );
    if logarithmic {
        let mut tick = start;
        while tick <= most {
            let x = place(tick);
            let bottom = height - 26.0;
            let _ = writeln!(
                text,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"#ddd\"/><text x=\"{x:.1}\" y=\"{:.1}\" \
                 text-anchor=\"middle\" fill=\"#666\" font-size=\"11\">{tick}</text>",
                bottom + 14.0
            );
            tick *= 10.0;
        }
    }
    for (
        number,
        (
            subject,
            Spread {
                lower,
                median,
                upper,
            },
        ),
    ) in bars.iter().enumerate()
    {
        let y = TOP + LINE * number as f64;
        let middle = y + LINE / 2.0;
        let colour = match *subject {
            "cocker" => "#2266bb",
            "floor" => "#888888",
            _ => "#bbccdd",
        };
        let _ = writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{subject}</text>\
             <rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke=\"#222\" stroke-width=\"2\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 8.0,
            middle + 4.0,
            y + 4.0,
            (place(*median) - LEFT).max(1.0),
            LINE - 8.0,
            place(*lower),
            place(*upper),
            place(*upper).max(place(*median)) + 8.0,
            middle + 4.0,
            short(*median)
        );
    }
    text.push_str("</svg>\n");
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_a_bar_for_each_that_was_measured() {
        let row = Row {
            id: "boot".into(),
            title: "boot & ready".into(),
            unit: "ms".into(),
            target: String::new(),
            note: String::new(),
            higher_is_better: false,
            cells: [
                ("cocker", Cell::Samples(vec![5.0, 6.0])),
                ("docker", Cell::Samples(vec![400.0])),
                ("lxc", Cell::Why("not here".into())),
            ]
            .into_iter()
            .collect(),
        };
        let plot = svg(&row, &["cocker", "lxc", "docker"]);
        assert_eq!(plot.matches("<rect x=").count(), 2);
        assert!(
            plot.contains("boot &amp; ready")
                && plot.contains("logarithmic")
                && !plot.contains("lxc")
        );
    }
}
