//! What was measured: samples per row and subject, or why there are none; as medians and quartiles, in JSON and Markdown.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One subject's answer to one row.
#[derive(Clone)]
pub enum Cell {
    Samples(Vec<f64>),
    /// It cannot do that here, and this is why.
    Why(String),
}

pub struct Row {
    pub id: String,
    pub title: String,
    pub unit: String,
    /// What DESIGN promises, as text; empty where nothing is promised.
    pub target: String,
    /// What a reader must know to compare; may be empty.
    pub note: String,
    pub higher_is_better: bool,
    pub cells: BTreeMap<&'static str, Cell>,
}

/// Of samples: the quarter below, the middle and the quarter above.
pub struct Spread {
    pub lower: f64,
    pub median: f64,
    pub upper: f64,
}

/// None of no samples.
pub fn spread(samples: &[f64]) -> Option<Spread> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    // Between two samples where the place falls between them.
    let at = |part: f64| {
        let place = part * last as f64;
        let below = place.floor() as usize;
        let above = place.ceil() as usize;
        sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
    };
    Some(Spread {
        lower: at(0.25),
        median: at(0.5),
        upper: at(0.75),
    })
}

impl Row {
    pub fn to_json(&self) -> Value {
        let cells: serde_json::Map<String, Value> = self
            .cells
            .iter()
            .map(|(subject, cell)| {
                let value = match cell {
                    Cell::Why(why) => json!({ "why": why }),
                    Cell::Samples(samples) => match spread(samples) {
                        Some(Spread { lower, median, upper }) => {
                            json!({ "median": median, "lower_quartile": lower, "upper_quartile": upper, "samples": samples })
                        }
                        None => json!({ "why": "no sample was taken" }),
                    },
                };
                (subject.to_string(), value)
            })
            .collect();
        json!({ "id": self.id, "title": self.title, "unit": self.unit, "target": self.target, "note": self.note,
                "higher_is_better": self.higher_is_better, "subjects": cells })
    }
}

/// A row as it was written, so that a run of some rows keeps the others.
pub fn from_json(row: &Value, subjects: &[&'static str]) -> Option<Row> {
    let text = |field: &str| row[field].as_str().map(str::to_string);
    let cells = row["subjects"]
        .as_object()?
        .iter()
        .filter_map(|(name, cell)| {
            let subject = *subjects.iter().find(|subject| *subject == name)?;
            let cell = match cell["samples"].as_array() {
                Some(samples) => Cell::Samples(samples.iter().filter_map(Value::as_f64).collect()),
                None => Cell::Why(cell["why"].as_str()?.to_string()),
            };
            Some((subject, cell))
        })
        .collect();
    Some(Row {
        id: text("id")?,
        title: text("title")?,
        unit: text("unit")?,
        target: text("target")?,
        note: text("note")?,
        higher_is_better: row["higher_is_better"].as_bool()?,
        cells,
    })
}

/// One table of all rows; what cannot be done is numbered, and said below.
pub fn markdown(rows: &[Row], subjects: &[&'static str]) -> String {
    let mut text = String::new();
    let mut whys: Vec<String> = Vec::new();
    let _ = writeln!(text, "| | unit | target | {} | |", subjects.join(" | "));
    let _ = writeln!(text, "|---|---|---|{}---|", "---:|".repeat(subjects.len()));
    for row in rows {
        let cells: Vec<String> = subjects
            .iter()
            .map(|subject| cell(row, subject, &mut whys))
            .collect();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | [plot]({}.svg) |",
            row.title,
            row.unit,
            row.target,
            cells.join(" | "),
            row.id
        );
    }
    let _ = writeln!(text);
    for (number, why) in whys.iter().enumerate() {
        let _ = writeln!(text, "{}. {why}", number + 1);
    }
    for row in rows.iter().filter(|row| !row.note.is_empty()) {
        let _ = writeln!(text, "\n*{}*: {}.", row.title, row.note);
    }
    text
}

fn cell(row: &Row, subject: &str, whys: &mut Vec<String>) -> String {
    match row.cells.get(subject) {
        None => String::new(),
        Some(Cell::Why(why)) => {
            let number = whys
                .iter()
                .position(|known| known == why)
                .unwrap_or_else(|| {
                    whys.push(why.clone());
                    whys.len() - 1
                });
            format!("– ({})", number + 1)
        }
        Some(Cell::Samples(samples)) => match spread(samples) {
            None => String::new(),
            Some(Spread {
                lower,
                median,
                upper,
            }) => {
                let spread = if samples.len() > 1 {
                    format!(" <sub>{}…{}</sub>", short(lower), short(upper))
                } else {
                    String::new()
                };
                let bold = if subject == "cocker" { "**" } else { "" };
                format!("{bold}{}{bold}{spread}", short(median))
            }
        },
    }
}

/// Three digits, as much as such figures tell.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_samples() {
        let Spread {
            lower,
            median,
            upper,
        } = spread(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((lower, median, upper), (1.75, 2.5, 3.25));
        assert!(spread(&[]).is_none());
    }

    #[test]
    fn one_reason_has_one_number() {
        let cells = [
            ("cocker", Cell::Samples(vec![1.0, 2.0, 3.0])),
            ("lxc", Cell::Why("not installed".into())),
            ("runc", Cell::Why("not installed".into())),
        ];
        let row = Row {
            id: "run".into(),
            title: "run true".into(),
            unit: "ms".into(),
            target: "2 ms".into(),
            note: String::new(),
            higher_is_better: false,
            cells: cells.into_iter().collect(),
        };
        let row = from_json(&row.to_json(), &["cocker", "lxc", "runc"]).unwrap();
        let table = markdown(&[row], &["cocker", "lxc", "runc"]);
        assert!(
            table.contains("| run true | ms | 2 ms | **2.00** <sub>1.50…2.50</sub> | – (1) | – (1) | [plot](run.svg) |"),
            "{table}"
        );
        assert!(table.ends_with("1. not installed\n"), "{table}");
    }
}
