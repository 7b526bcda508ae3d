//! Documents become jobs here: TOML and JSON first become one tree of values, and the tree is read with an eye on
//! which key of which step is at fault, which serde alone does not tell.

use super::nearest::nearest;
use super::{Job, Write};
use crate::fault::Fault;
use crate::step::{self, JobStep, Parameter, Step};
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use serde::de::value::MapDeserializer;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::cell::RefCell;
use toml::de::{DeTable, DeValue};

pub(super) fn toml(text: &str) -> Result<Job> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let place = error.span().map_or_else(|| "the job".to_owned(), |span| line_at(text, span.start));
        // The parser's message may add an explanation on a line of its own.
        Error::invalid(format!("{place}: not TOML: {}", error.message().replace('\n', ", ")))
    })?;
    job(Value::Object(table.into_iter().map(|(key, value)| (key, json_of_toml(value))).collect())).map_err(|fault| {
        match DeTable::parse(text).ok().and_then(|table| offset_of(table.get_ref(), &fault.pointer)) {
            Some(offset) => Error::from(fault).at(line_at(text, offset)),
            None => Error::from(fault),
        }
    })
}

pub(super) fn json(text: &str) -> Result<Job> {
    // serde_json ends its message with the line and the column.
    let document = serde_json::from_str(text).map_err(|error| Error::invalid(format!("not JSON: {error}")))?;
    Ok(job(document)?)
}

/// The steps of a JSON array.
pub(super) fn json_steps(text: &str) -> Result<Vec<JobStep>> {
    let list = serde_json::from_str(text).map_err(|error| Error::invalid(format!("steps: not JSON: {error}")))?;
    Ok(steps(list)?)
}

fn line_at(text: &str, offset: usize) -> String {
    format!("line {}", text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1)
}

/// JSON has no infinities and no dates: the first become the words [`step::Number`] takes, the second text, which no
/// key takes.
fn json_of_toml(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => step::json_number(number),
        toml::Value::Boolean(flag) => Value::Bool(flag),
        toml::Value::Datetime(date) => Value::String(date.to_string()),
        toml::Value::Array(list) => Value::Array(list.into_iter().map(json_of_toml).collect()),
        toml::Value::Table(table) => {
            Value::Object(table.into_iter().map(|(key, value)| (key, json_of_toml(value))).collect())
        }
    }
}

/// Where in the text the value at `pointer`, or the nearest that holds it, begins.
fn offset_of(table: &DeTable<'_>, pointer: &str) -> Option<usize> {
    let mut offset = None;
    let mut here = Here::Table(table);
    for part in pointer.split('/').skip(1) {
        let value = match here {
            Here::Table(table) => {
                let (key, value) = table.get_key_value(part)?;
                offset = Some(key.span().start);
                value.get_ref()
            }
            Here::List(list) => {
                let value = list.get(part.parse::<usize>().ok()?)?;
                offset = Some(value.span().start);
                value.get_ref()
            }
            Here::Leaf => return offset,
        };
        here = match value {
            DeValue::Table(table) => Here::Table(table),
            DeValue::Array(list) => Here::List(list),
            _ => Here::Leaf,
        };
    }
    offset
}

/// A value on the way down a TOML document.
enum Here<'a, 'text> {
    Table(&'a DeTable<'text>),
    List(&'a toml::de::DeArray<'text>),
    Leaf,
}

fn job(document: Value) -> Result<Job, Fault> {
    let Value::Object(mut table) = document else {
        return Err(Fault::new("", "a job is a table of keys, beginning with `input`"));
    };
    known_keys(&table, &step::keys::<Job>(), "the job", "key")?;
    let list = table.remove("steps").map_or_else(|| Ok(Vec::new()), steps).map_err(|fault| fault.under("/steps"))?;
    let write = match table.remove("write") {
        None => Write::default(),
        Some(Value::Object(keys)) => known_keys(&keys, &step::keys::<Write>(), "[write]", "key")
            .and_then(|()| record(keys, "[write]"))
            .map_err(|fault| fault.under("/write"))?,
        Some(other) => {
            return Err(Fault::new("/write", format!("`write` takes a table of keys, but got {other}")));
        }
    };
    let job = Job { steps: list, write, ..record(table, "the job")? };
    job.check()?;
    Ok(job)
}

fn steps(list: Value) -> Result<Vec<JobStep>, Fault> {
    let Value::Array(list) = list else {
        return Err(Fault::new("", format!("`steps` takes a list of steps, but got {list}"))
            .hint("begin each step with [[steps]] in TOML, or {\"op\": ...} in JSON"));
    };
    let one = |(index, value)| {
        let step = step(value, &format!("step {}", index + 1)).map_err(|fault| fault.under(&format!("/{index}")))?;
        check_step(&step, index)?;
        Ok(step)
    };
    list.into_iter().enumerate().map(one).collect()
}

/// [`Step::validate`] for step `index`, counted from 0, with its number and place.
pub(super) fn check_step(entry: &JobStep, index: usize) -> Result<(), Fault> {
    let check = entry.step.check().and_then(|()| entry.save.as_deref().map_or(Ok(()), check_name));
    check.map_err(|fault| {
        let message = format!("step {} ({}): {}", index + 1, entry.step.op(), fault.message);
        Fault { message, ..fault }.under(&format!("/{index}"))
    })
}

/// Names of saved images become names of files beside those of the run itself.
fn check_name(name: &str) -> Result<(), Fault> {
    const TAKEN: [&str; 6] = ["input", "labels", "result", "objects", "contacts", "histogram"];
    let plain = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    // Some disks take no notice of case.
    let lower = name.to_ascii_lowercase();
    if !plain || name.len() > 100 {
        return Err(Fault::new("/save", format!("`save` is {name:?}, which can't be the name of an output"))
            .hint("a name is letters, digits, `-`, `_` and `.`, and begins with a letter or digit"));
    }
    if TAKEN.contains(&lower.as_str()) || lower.ends_with("-contacts") {
        return Err(Fault::new("/save", format!("`save` is {name}, a name that outputs of the run itself have"))
            .hint("give it a name that says what the image shows"));
    }
    Ok(())
}

/// One step; `name` is what messages call it: `step 2`.
pub(super) fn step(value: Value, name: &str) -> Result<JobStep, Fault> {
    let Value::Object(mut table) = value else {
        return Err(Fault::new("", format!("{name} takes a table with an `op`, but got {value}")));
    };
    let op = match table.remove("op") {
        Some(Value::String(op)) => op,
        Some(other) => {
            return Err(Fault::new("/op", format!("`op` of {name} takes the name of an op, but got {other}")));
        }
        None => return Err(Fault::new("", format!("{name} needs an `op`")).hint(ops_hint())),
    };
    let Some(parameters) = step::parameters(&op) else { return Err(unknown_op(&op, name)) };
    let subject = format!("{name} ({op})");
    known_keys(&table, &parameters, &subject, "parameter")?;
    let save = match table.remove("save") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => Some(name),
        Some(other) => {
            return Err(Fault::new("/save", format!("`save` of {subject} takes text, but got {other}")));
        }
    };
    let step = match op.as_str() {
        "rescale" => Step::Rescale(record(table, &subject)?),
        "clip" => Step::Clip(record(table, &subject)?),
        "cast" => Step::Cast(record(table, &subject)?),
        "gaussian" => Step::Gaussian(record(table, &subject)?),
        "median" => Step::Median(record(table, &subject)?),
        "mean" => Step::Mean(record(table, &subject)?),
        "minimum" => Step::Minimum(record(table, &subject)?),
        "maximum" => Step::Maximum(record(table, &subject)?),
        "threshold" => Step::Threshold(record(table, &subject)?),
        "erode" => Step::Erode(record(table, &subject)?),
        "dilate" => Step::Dilate(record(table, &subject)?),
        "open" => Step::Open(record(table, &subject)?),
        "close" => Step::Close(record(table, &subject)?),
        "fill_holes" => Step::FillHoles(record(table, &subject)?),
        "label" => Step::Label(record(table, &subject)?),
        "objects" => Step::Objects(record(table, &subject)?),
        _ => return Err(unknown_op(&op, name)),
    };
    Ok(JobStep { step, save })
}

/// The one way a step is read, from a job as from a plan on the wire.
impl<'de> Deserialize<'de> for JobStep {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        step(Value::deserialize(from)?, "the step").map_err(|fault| serde::de::Error::custom(fault.message))
    }
}

fn ops_hint() -> String {
    format!("the ops are {}", step::op_names().join(", "))
}

fn unknown_op(op: &str, name: &str) -> Fault {
    let hint = nearest(op, step::op_names()).map_or_else(ops_hint, |near| format!("did you mean `{near}`?"));
    Fault::new("/op", format!("{name}: there is no op `{op}`")).hint(hint)
}

/// What `subject`, whose keys are called `noun`s, says of a key it does not have.
pub(super) fn unknown_key(key: &str, known: &[Parameter], subject: &str, noun: &str) -> Fault {
    let names = || known.iter().map(|parameter| parameter.name.as_str());
    let hint = match nearest(key, names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("it takes no {noun}s"),
        None => format!("its {noun}s are {}", names().collect::<Vec<_>>().join(", ")),
    };
    Fault::new(format!("/{key}"), format!("{subject} has no {noun} `{key}`")).hint(hint)
}

fn known_keys(table: &Map<String, Value>, known: &[Parameter], subject: &str, noun: &str) -> Result<(), Fault> {
    match table.keys().find(|key| known.iter().all(|parameter| parameter.name != **key)) {
        Some(key) => Err(unknown_key(key, known, subject, noun)),
        None => Ok(()),
    }
}

/// Reads a table whose keys are known. serde reports what is wrong but not where, so the key it was handed last is
/// remembered: that is the one it stumbled over, or none when something is missing at the end.
fn record<T: DeserializeOwned>(table: Map<String, Value>, subject: &str) -> Result<T, Fault> {
    let last: RefCell<Option<(String, Value)>> = RefCell::new(None);
    let mut entries = table.into_iter();
    let watched = std::iter::from_fn(|| {
        let entry = entries.next();
        *last.borrow_mut() = entry.clone();
        entry
    });
    T::deserialize(MapDeserializer::new(watched)).map_err(|error: serde_json::Error| {
        let message = error.to_string();
        match last.take() {
            Some((key, value)) => {
                let message = format!("`{key}` of {subject} {}, but got {value}", takes(&message));
                Fault::new(format!("/{key}"), message)
            }
            None => match message.strip_prefix("missing field ") {
                Some(field) => Fault::new("", format!("{subject} needs {field}")),
                None => Fault::new("", format!("{subject} {message}")),
            },
        }
    })
}

/// serde's account of a wrong value, as `takes ...`. Our own types already say it so.
fn takes(message: &str) -> String {
    let expected = ["expected one of ", "expected "]
        .iter()
        .find_map(|phrase| message.split_once(phrase).map(|(_, wanted)| wanted));
    match expected {
        Some("f64") => "takes a number".to_owned(),
        Some("u64" | "usize") => "takes a whole number, 0 or more".to_owned(),
        Some("a boolean") => "takes true or false".to_owned(),
        Some("a string") => "takes text".to_owned(),
        Some(wanted) => format!("takes {wanted}"),
        None => message.to_owned(),
    }
}
