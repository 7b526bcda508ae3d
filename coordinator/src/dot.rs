//! The stages of a plan as a graph for Graphviz: what runs, what it leaves, and where a barrier stands between.

use std::fmt::Write as _;

use pipeline::plan::{Leaf, Plan, Rows, StageKind, TableId};

use crate::units;

/// The graph, as `dot` reads it: `voxmill plan JOB --dot | dot -Tsvg -o plan.svg`.
pub(crate) fn stages(plan: &Plan) -> String {
    let mut out = String::from("digraph plan {\n  rankdir=TB;\n  node [shape=box, fontname=\"sans-serif\"];\n");
    // Writing to a string does not fail.
    let _ = writeln!(out, "  input [shape=cylinder, label={}];", quoted(&plan.input.url));
    let mut before = "input".to_owned();
    for (i, stage) in plan.stages.iter().enumerate() {
        let units = plan.stage_units(i).map_or("counted later".into(), |n| format!("{} units", units::count(n)));
        let label = format!("{}. {}\n{units}", i + 1, plan.stage_name(stage));
        let _ = writeln!(out, "  stage{i} [label={}];", quoted(&label));
        let _ = writeln!(out, "  {before} -> stage{i};");
        before = format!("stage{i}");
        for left in left_by(plan, &stage.kind) {
            let _ =
                writeln!(out, "  {} [shape=cylinder];\n  stage{i} -> {} [style=dashed];", quoted(&left), quoted(&left));
        }
    }
    out.push_str("}\n");
    out
}

/// What the user finds of a stage: images and tables.
fn left_by(plan: &Plan, kind: &StageKind) -> Vec<String> {
    let groups = |image: usize| plan.stored(image).map(|stored| stored.groups.clone()).unwrap_or_default();
    let keys = |table: TableId| plan.table(table).map(|table| table.keys.clone()).unwrap_or_default();
    match kind {
        StageKind::Map(pass) => pass
            .leaves
            .iter()
            .flat_map(|leaf| match leaf {
                Leaf::Image(image) => groups(*image),
                _ => Vec::new(),
            })
            .collect(),
        StageKind::Relabel { step } => groups(step + 1),
        StageKind::Table(table @ TableId { of: Rows::Objects | Rows::Contacts, .. }) => keys(*table),
        _ => Vec::new(),
    }
}

/// A name in quotes; a line break in it stays one.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("a \"b\"\nc\\"), "\"a \\\"b\\\"\\nc\\\\\"");
    }
}
