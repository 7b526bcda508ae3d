//! Steps on one line: `gaussian sigma=3,6,6 | threshold above=0.9 | label connectivity=26`.
//!
//! Steps are separated by `|` and words by white space, newlines too. A step begins with its op; then come `key=value`
//! words, read by the parameter's type, and bare flags, which mean true. Lists are `3,6,6` or `[3,6,6]`. Text that
//! begins with `[` is the JSON array of the same steps. Every error shows its line with a caret under the place.

use super::read;
use crate::fault::Fault;
use crate::step::{self, JobStep, Parameter};
use crate::{Error, Result};
use serde_json::{Map, Value};
use std::ops::Range;

/// Reads and checks steps written on one line, or as a JSON array. Empty text is no steps: the image is only measured.
///
/// # Errors
///
/// [`Error::invalid`], with the place under a caret and the nearest name as a hint.
pub fn steps_from_line(text: &str) -> Result<Vec<JobStep>> {
    if text.trim_start().starts_with('[') {
        return read::json_steps(text);
    }
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut steps = Vec::new();
    let mut from = 0;
    for (index, part) in text.split('|').enumerate() {
        let span = from..from + part.len();
        from = span.end + 1;
        steps.push(step_of(text, span, index)?);
    }
    Ok(steps)
}

/// The step written in `text[part]`.
fn step_of(text: &str, part: Range<usize>, index: usize) -> Result<JobStep> {
    let name = format!("step {}", index + 1);
    let mut words = words(text, part.clone());
    let Some(op_span) = words.next() else {
        let fault = Fault::new("", format!("{name} is empty")).hint("write an op between two `|`, and none at the end");
        return Err(pointed(fault, text, part));
    };
    let op = &text[op_span.clone()];
    // An op that is not known is refused by the reader; its parameters are then of no interest.
    let parameters = step::parameters(op).unwrap_or_default();
    let mut table = Map::from_iter([("op".to_owned(), Value::from(op))]);
    let mut spans = vec![("op".to_owned(), op_span.clone())];
    for span in words {
        let (key, value) = match parameter(&text[span.clone()], op, &parameters, &name) {
            // A mistyped op is what to mend first, whatever follows it.
            Err(_) if parameters.is_empty() && step::parameters(op).is_none() => continue,
            read => read.map_err(|fault| pointed(fault, text, span.clone()))?,
        };
        if table.contains_key(&key) {
            let fault = Fault::new("", format!("{name} ({op}) is given `{key}` twice"));
            return Err(pointed(fault, text, span));
        }
        table.insert(key.clone(), value);
        spans.push((key, span));
    }
    let read = read::step(Value::Object(table), &name).map_err(|fault| fault.under(&format!("/{index}")));
    let checked = read.and_then(|step| read::check_step(&step, index).map(|()| step));
    checked.map_err(|fault| {
        let at = fault.pointer.rsplit('/').next().unwrap_or_default();
        let span = spans.iter().find(|(key, _)| key == at).map_or(op_span, |(_, span)| span.clone());
        pointed(fault, text, span)
    })
}

/// The words of `text[part]`.
fn words(text: &str, part: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let start = part.start;
    let inside = &text[part];
    inside.split_whitespace().map(move |word| {
        // A word is a slice of `inside`, so the distance of their first bytes is its offset.
        let offset = start + (word.as_ptr() as usize - inside.as_ptr() as usize);
        offset..offset + word.len()
    })
}

/// One word after the op, as a key and its value.
fn parameter(word: &str, op: &str, parameters: &[Parameter], name: &str) -> Result<(String, Value), Fault> {
    let (key, written) = match word.split_once('=') {
        Some((key, written)) => (key, Some(written)),
        None => (word, None),
    };
    let subject = format!("{name} ({op})");
    let Some(known) = parameters.iter().find(|parameter| parameter.name == key) else {
        if written.is_none() && step::parameters(word).is_some() {
            let message = format!("{subject} is followed by another op, `{word}`");
            return Err(Fault::new("", message).hint(format!("put `|` before `{word}`")));
        }
        if key.is_empty() || word.starts_with(|c: char| c.is_ascii_digit()) {
            let message = format!("{subject} is followed by a stray word, `{word}`");
            return Err(Fault::new("", message).hint("write parameters as key=value, without spaces in between"));
        }
        return Err(read::unknown_key(key, parameters, &subject, "parameter"));
    };
    let value = match written {
        None if known.flag => Value::Bool(true),
        None | Some("") => {
            return Err(Fault::new("", format!("`{key}` of {subject} has no value"))
                .hint(format!("write {key}=..., without spaces")));
        }
        Some(written) if known.text => Value::from(written),
        Some(written) => value(written),
    };
    Ok((key.to_owned(), value))
}

/// A value that is not known to be text: a list, a number, true or false, else a word.
fn value(written: &str) -> Value {
    let bracketed = written.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bracketed.or(written.contains(',').then_some(written)) {
        Some(list) => Value::Array(list.split(',').map(scalar).collect()),
        None => scalar(written),
    }
}

fn scalar(word: &str) -> Value {
    match word {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => match (word.parse::<u64>(), word.parse::<f64>()) {
            (Ok(whole), _) => Value::from(whole),
            (_, Ok(number)) => step::json_number(number),
            _ => Value::from(word),
        },
    }
}

/// The error with the line of `text` that holds `span`, and carets under it.
fn pointed(fault: Fault, text: &str, span: Range<usize>) -> Error {
    let line_start = text[..span.start].rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = text[span.start..].find('\n').map_or(text.len(), |newline| span.start + newline);
    let line = &text[line_start..line_end];
    // One column for each character, tabs included, so that the caret stands where the eye expects it.
    let shown: String = line.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    let before = text[line_start..span.start].chars().count();
    let width = text[span.start..span.end.min(line_end)].chars().count().max(1);
    let error = Error::from(fault);
    let message = format!("{}\n  {}\n  {}{}", error.message, shown.trim_end(), " ".repeat(before), "^".repeat(width));
    Error { message, ..error }
}

#[cfg(test)]
mod tests;
