//! What ops there are and what each one takes, read from the JSON Schema of [`JobStep`], so that parser, schema and help
//! can't disagree.

use super::{JobStep, Step};
use schemars::JsonSchema;
use serde_json::Value;
use std::fmt::Write;

/// One parameter of an op, or one key of a table.
pub(crate) struct Parameter {
    pub(crate) name: String,
    /// Must be given.
    required: bool,
    /// Written when not given, as JSON; `None` when leaving it out means something of its own.
    default: Option<Value>,
    /// One sentence for users.
    meaning: String,
    /// Takes text only, so that `true` and `12` are read as text too.
    pub(crate) text: bool,
    /// Takes true or false, so that its bare name means true.
    pub(crate) flag: bool,
}

/// One op of the schema.
struct Op {
    name: String,
    meaning: String,
    parameters: Vec<Parameter>,
}

/// The names of all ops, in the order of [`Step`].
pub(crate) fn op_names() -> Vec<String> {
    ops().into_iter().map(|op| op.name).collect()
}

/// What `op` takes; `None` when there is no such op.
pub(crate) fn parameters(op: &str) -> Option<Vec<Parameter>> {
    ops().into_iter().find(|known| known.name == op).map(|known| known.parameters)
}

/// The keys of a table type.
pub(crate) fn keys<T: JsonSchema>() -> Vec<Parameter> {
    described(&schema_of::<T>())
}

/// A step's own keys, and `save`: the schema of every op has it. Done by hand, since a flattened enum whose variants
/// allow no other keys would refuse it.
impl JsonSchema for JobStep {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Step".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut schema = Step::json_schema(generator);
        let save = serde_json::json!({
            "description": SAVE_MEANING,
            "type": ["string", "null"],
        });
        if let Some(variants) = schema.get_mut("oneOf").and_then(Value::as_array_mut) {
            for variant in variants {
                if let Some(properties) = variant.get_mut("properties").and_then(Value::as_object_mut) {
                    properties.insert(SAVE.to_owned(), save.clone());
                }
            }
        }
        schema
    }
}

/// The key that every step has.
const SAVE: &str = "save";
const SAVE_MEANING: &str = "Keeps the image after this step as NAME.zarr, and what it measures as NAME.parquet.";

fn schema_of<T: JsonSchema>() -> Value {
    let mut settings = schemars::generate::SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

fn ops() -> Vec<Op> {
    let schema = schema_of::<JobStep>();
    let variants = schema["oneOf"].as_array().cloned().unwrap_or_default();
    let op = |variant: &Value| Op {
        name: text(&variant["properties"]["op"]["const"]),
        meaning: text(&variant["description"]),
        parameters: described(variant).into_iter().filter(|p| p.name != "op").collect(),
    };
    variants.iter().map(op).collect()
}

fn described(schema: &Value) -> Vec<Parameter> {
    let Some(properties) = schema["properties"].as_object() else { return Vec::new() };
    let required = |name: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
    let parameter = |(name, property): (&String, &Value)| Parameter {
        name: name.clone(),
        required: required(name),
        default: property.get("default").filter(|d| !d.is_null()).cloned(),
        meaning: text(&property["description"]),
        text: property["type"] == "string" || name == SAVE,
        flag: property["type"] == "boolean",
    };
    properties.iter().map(parameter).collect()
}

/// The text of a schema's string, on one line.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What `voxmill help steps` prints: each op with its meaning, its twin in scipy or scikit-image, and its parameters
/// with their defaults.
pub fn help_steps() -> String {
    let mut out = String::from("Steps are written one after the other, separated by `|`; a bare name means true:\n\n");
    out.push_str(&format!("  {EXAMPLE}\n\nEvery step takes one more:\n\n    {SAVE}\n{}", folded(SAVE_MEANING, 8)));
    for op in ops() {
        let _ = write!(out, "\n{}\n{}", op.name, folded(&op.meaning, 4));
        let (first, then): (Vec<_>, Vec<_>) = op.parameters.iter().filter(|p| p.name != SAVE).partition(|p| p.required);
        for parameter in first.into_iter().chain(then) {
            let default = match &parameter.default {
                Some(Value::String(word)) => format!(" = {word}"),
                Some(value) => format!(" = {value}"),
                None if parameter.required => " (required)".to_owned(),
                None => String::new(),
            };
            let _ = write!(out, "    {}{default}\n{}", parameter.name, folded(&parameter.meaning, 8));
        }
    }
    out
}

/// The example of the help text; a test runs it through the parser.
pub(super) const EXAMPLE: &str =
    "rescale divide=255 invert | gaussian sigma=3,6,6 | threshold above=0.9 | erode ball=12 | label connectivity=26";

/// `text` as lines of at most 100 characters, each indented, each ended by a newline.
fn folded(text: &str, indent: usize) -> String {
    const WIDTH: usize = 100;
    let mut out = String::new();
    let mut line = " ".repeat(indent);
    for word in text.split(' ') {
        if line.len() > indent && line.len() + word.len() >= WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            line.truncate(indent);
        }
        line.push_str(word);
        line.push(' ');
    }
    out.push_str(line.trim_end());
    out.push('\n');
    out
}
