//! Listings of stacks: the layers of an image, what differs between two stacks, where a path comes from.
//!
//! Paths and targets of links may be any bytes. For people they are escaped; programs get them as text and, where they
//! are no UTF-8, also as hexadecimal digits (`path_bytes`, `target_bytes`), which lose nothing.

use super::{Column, json, named, size, table};
use crate::escape::{escape, escape_bytes};
use crate::local_time::Clock;
use crate::options::ListingForm;
use cocker_engine::{
    Change, ChangeKind, Difference, FileKind, Found, LayerOrigin, LayerSummary, Name, Standing,
    TraceSummary, Version,
};
use serde::Serialize;

const HISTORY_COLUMNS: [Column; 6] = [
    ("number", 6),
    ("layer_id", 12),
    ("image", 20),
    ("make_datetime", 19),
    ("size", 10),
    ("origin", 20),
];
const HISTORY_DASHES: usize = 92;

const TRACE_COLUMNS: [Column; 7] = [
    ("number", 6),
    ("layer_id", 12),
    ("image", 20),
    ("make_datetime", 19),
    ("size", 10),
    ("found", 20),
    ("standing", 8),
];
const TRACE_DASHES: usize = 101;

/// So many digits of an id tell layers apart for people.
const ID_DIGITS: usize = 12;
/// What a foreign image says of a layer can be a whole shell script; people see so many characters.
const LONGEST_ORIGIN: usize = 60;

pub fn history(layers: &[LayerSummary], form: ListingForm) -> String {
    match form {
        ListingForm::Table => history_table(layers, &Clock::local()),
        ListingForm::Names => lines(layers.iter().map(|layer| layer.record.id.to_string())),
        ListingForm::Json => {
            let clock = Clock::local();
            let entry = |layer| LayerEntry::of(layer, &clock);
            json(layers.iter().map(entry).collect::<Vec<_>>())
        }
    }
}

pub fn traces(traces: &[TraceSummary], form: ListingForm) -> String {
    match form {
        ListingForm::Table => trace_table(traces, &Clock::local()),
        ListingForm::Names => lines(traces.iter().map(|trace| match &trace.layer {
            Some(layer) => layer.record.id.to_string(),
            None => OWN_LAYER.to_string(),
        })),
        ListingForm::Json => {
            let clock = Clock::local();
            let entry = |trace| TraceEntry::of(trace, &clock);
            json(traces.iter().map(entry).collect::<Vec<_>>())
        }
    }
}

/// What a container's writable layer is called.
const OWN_LAYER: &str = "container";

/// A list of changes, which is written as they are found.
pub struct Changes {
    form: ListingForm,
    text: String,
    count: usize,
}

impl Changes {
    pub fn new(form: ListingForm) -> Changes {
        Changes {
            form,
            text: String::new(),
            count: 0,
        }
    }

    pub fn add(&mut self, change: &Change) {
        match self.form {
            ListingForm::Table => {
                let letter = match change.kind {
                    ChangeKind::Added => 'A',
                    ChangeKind::Changed => 'C',
                    ChangeKind::Removed => 'D',
                };
                let path = escape_bytes(&change.path);
                self.text.push_str(&format!("{letter} {path}\n"));
            }
            ListingForm::Names => {
                self.text.push_str(&escape_bytes(&change.path));
                self.text.push('\n');
            }
            ListingForm::Json => {
                let before = if self.count == 0 { "[\n  " } else { ",\n  " };
                self.text.push_str(before);
                self.text
                    .push_str(&crate::escape::json(&ChangeEntry::of(change)));
            }
        }
        self.count += 1;
    }

    /// What was written and not yet taken.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn take_text(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    /// The rest.
    pub fn finish(mut self) -> String {
        if self.form == ListingForm::Json {
            self.text
                .push_str(if self.count == 0 { "[]\n" } else { "\n]\n" });
        }
        self.text
    }
}

fn history_table(layers: &[LayerSummary], clock: &Clock) -> String {
    let row = |layer: &LayerSummary| {
        let [number, id, images, made, size] = layer_cells(Some(layer), clock);
        let origin = layer.record.origin.as_ref();
        [
            number,
            id,
            images,
            made,
            size,
            origin.map_or("-".into(), origin_in_words),
        ]
    };
    let rows = layers.iter().map(row).collect();
    table(&HISTORY_COLUMNS, HISTORY_DASHES, 0, rows)
}

fn trace_table(traces: &[TraceSummary], clock: &Clock) -> String {
    let row = |trace: &TraceSummary| {
        let [number, id, images, made, size] = layer_cells(trace.layer.as_ref(), clock);
        let found = found_in_words(&trace.found);
        let standing = standing(trace.standing).to_string();
        [number, id, images, made, size, found, standing]
    };
    let rows = traces.iter().map(row).collect();
    table(&TRACE_COLUMNS, TRACE_DASHES, 0, rows)
}

/// Number, id, images, date and size; none of a container's writable layer.
fn layer_cells(layer: Option<&LayerSummary>, clock: &Clock) -> [String; 5] {
    let Some(layer) = layer else {
        return ["-", "-", OWN_LAYER, "-", "-"].map(String::from);
    };
    let id: String = layer.record.id.as_str().chars().take(ID_DIGITS).collect();
    let images = match layer.images.is_empty() {
        true => "-".into(),
        false => image_names(&layer.images).join(","),
    };
    let made = clock.show(layer.record.made);
    let size = size(layer.record.size);
    [layer.number.to_string(), id, images, made, size]
}

fn image_names(images: &[(Name, Version)]) -> Vec<String> {
    let names = images.iter();
    names.map(|(name, version)| named(name, version)).collect()
}

fn origin_in_words(origin: &LayerOrigin) -> String {
    match origin {
        LayerOrigin::HostPrograms => "the host's programs".into(),
        LayerOrigin::Container(name) => format!("container {}", cut(name)),
        LayerOrigin::Archive(name) => format!("file {}", cut(name)),
        LayerOrigin::Foreign(history) => cut(history),
    }
}

/// Escaped, so that what is cut off is never half of an escape.
fn cut(text: &str) -> String {
    let escaped = escape(text);
    match escaped.char_indices().nth(LONGEST_ORIGIN) {
        Some((end, _)) => format!("{}…", &escaped[..end]),
        None => escaped.into_owned(),
    }
}

fn found_in_words(found: &Found) -> String {
    match found {
        Found::File { size } => format!("file {size} B"),
        Found::Folder { is_opaque: false } => "folder".into(),
        Found::Folder { is_opaque: true } => "folder, hides what is below".into(),
        Found::Link { target } => format!("link -> {}", escape_bytes(target)),
        Found::Special(kind) => kind_in_words(*kind).into(),
        Found::Removal => "removes it".into(),
        Found::Cover => "hides what is below".into(),
    }
}

fn kind_in_words(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "file",
        FileKind::Folder => "folder",
        FileKind::Link => "link",
        FileKind::CharacterDevice => "character device",
        FileKind::BlockDevice => "block device",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
    }
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Seen => "seen",
        Standing::Merged => "merged",
        Standing::Hidden => "hidden",
        Standing::Hides => "hides",
    }
}

fn lines(names: impl Iterator<Item = String>) -> String {
    names.fold(String::new(), |text, name| text + &name + "\n")
}

/// Bytes as text, and as hexadecimal digits where the text has lost something.
fn in_both_forms(bytes: &[u8]) -> (String, Option<String>) {
    match str::from_utf8(bytes) {
        Ok(text) => (text.into(), None),
        Err(_) => {
            let digits = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            (String::from_utf8_lossy(bytes).into_owned(), Some(digits))
        }
    }
}

/// The names of the fields are an interface: they stay.
#[derive(Serialize)]
struct LayerEntry<'a> {
    /// 1 is the lowest.
    number: usize,
    layer_id: &'a str,
    /// The images whose own layer it is.
    images: Vec<String>,
    make_datetime: String,
    size: u64,
    /// host_programs, container, archive or foreign; null where it is not known.
    origin: Option<&'static str>,
    /// The container's name, the file's, or what a foreign image says.
    origin_text: Option<&'a str>,
    /// Null until it is known.
    digest: Option<&'a str>,
}

impl<'a> LayerEntry<'a> {
    fn of(layer: &'a LayerSummary, clock: &Clock) -> LayerEntry<'a> {
        let record = &layer.record;
        let (origin, origin_text) = match &record.origin {
            None => (None, None),
            Some(LayerOrigin::HostPrograms) => (Some("host_programs"), None),
            Some(LayerOrigin::Container(name)) => (Some("container"), Some(&**name)),
            Some(LayerOrigin::Archive(name)) => (Some("archive"), Some(&**name)),
            Some(LayerOrigin::Foreign(history)) => (Some("foreign"), Some(&**history)),
        };
        LayerEntry {
            number: layer.number,
            layer_id: record.id.as_str(),
            images: image_names(&layer.images),
            make_datetime: clock.show_with_offset(record.made),
            size: record.size,
            origin,
            origin_text,
            digest: record.digest.as_ref().map(|digest| digest.as_str()),
        }
    }
}

/// The names of the fields are an interface: they stay.
#[derive(Serialize)]
struct ChangeEntry {
    /// added, changed or removed.
    change: &'static str,
    path: String,
    /// Only where the path is no UTF-8: hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    /// What it is now; of what was removed, what it was.
    r#type: String,
    /// Of what was changed, else empty.
    differences: Vec<&'static str>,
}

impl ChangeEntry {
    fn of(change: &Change) -> ChangeEntry {
        let (path, path_bytes) = in_both_forms(&change.path);
        ChangeEntry {
            change: match change.kind {
                ChangeKind::Added => "added",
                ChangeKind::Changed => "changed",
                ChangeKind::Removed => "removed",
            },
            path,
            path_bytes,
            r#type: kind_in_words(change.file).replace(' ', "_"),
            differences: change.differences.iter().map(difference).collect(),
        }
    }
}

fn difference(difference: &Difference) -> &'static str {
    match difference {
        Difference::Type => "type",
        Difference::Mode => "mode",
        Difference::Owner => "owner",
        Difference::Size => "size",
        Difference::ModificationTime => "modify_datetime",
        Difference::LinkTarget => "target",
        Difference::DeviceNumber => "device",
        Difference::Attributes => "attributes",
        Difference::Content => "content",
    }
}

/// The names of the fields are an interface: they stay.
#[derive(Serialize)]
struct TraceEntry<'a> {
    /// Null for a container's writable layer.
    layer: Option<LayerEntry<'a>>,
    /// file, folder, link, character_device, block_device, fifo, socket, removal or cover.
    found: String,
    /// Bytes of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// Where a link leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// Only where the target is no UTF-8: hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    target_bytes: Option<String>,
    /// Of a folder: whether it hides what is below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    opaque: Option<bool>,
    /// seen, merged, hidden or hides.
    standing: &'static str,
}

impl<'a> TraceEntry<'a> {
    fn of(trace: &'a TraceSummary, clock: &Clock) -> TraceEntry<'a> {
        let mut entry = TraceEntry {
            layer: trace.layer.as_ref().map(|it| LayerEntry::of(it, clock)),
            found: String::new(),
            size: None,
            target: None,
            target_bytes: None,
            opaque: None,
            standing: standing(trace.standing),
        };
        let found = match &trace.found {
            Found::File { size } => {
                entry.size = Some(*size);
                "file"
            }
            Found::Folder { is_opaque } => {
                entry.opaque = Some(*is_opaque);
                "folder"
            }
            Found::Link { target } => {
                let (text, bytes) = in_both_forms(target);
                (entry.target, entry.target_bytes) = (Some(text), bytes);
                "link"
            }
            Found::Special(kind) => kind_in_words(*kind),
            Found::Removal => "removal",
            Found::Cover => "cover",
        };
        entry.found = found.replace(' ', "_");
        entry
    }
}

#[cfg(test)]
mod tests;
