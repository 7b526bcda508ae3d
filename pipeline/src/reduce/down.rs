//! The way down: a group hands each child the final labels of the child's open objects.

use super::rank::Labels;
use super::up::child_page;
use super::{Contributor, Counts};
use crate::grid::Tree;
use crate::scratch::{Reader, Tag, Writer, decode_u64s, encode_u64s};
use crate::store::Store;
use crate::{Result, layout};

/// A group, and where it and its parent left what they know.
pub(crate) struct Group<'a> {
    pub(crate) store: &'a Store,
    pub(crate) tree: Tree,
    pub(crate) level: u32,
    pub(crate) unit: u64,
    /// The stage that joined this level on the way up.
    pub(crate) up: &'a str,
    /// The stage that handed labels down to this level; none at the top.
    pub(crate) above: Option<&'a str>,
    /// This stage.
    pub(crate) stage: &'a str,
    pub(crate) labels: Labels<'a>,
}

/// Writes the labels of every child's open objects. Holds 8 bytes for each object of the group, and a page of a child.
pub(crate) async fn hand_down(group: &Group<'_>) -> Result<()> {
    let file = Reader::open(group.store, &layout::scratch(group.up, group.unit)).await?;
    let counts = Counts::read(&file).await?;
    let this = Contributor { level: group.level, unit: group.unit };
    let mut labels = group.labels.of_closed(this, &file, counts.closed).await?;
    if let Some(above) = group.above {
        labels.extend(from_parent(group.store, group.tree, above, this, counts.open).await?);
    }
    let mut out = Writer::create(group.store, &layout::scratch(group.stage, group.unit)).await?;
    for index in file.indices(Tag::ChildMap) {
        let mut page = decode_u64s(&file.require(Tag::ChildMap, index).await?);
        for own in &mut page {
            let label = labels.get(*own as usize).copied();
            *own = label.ok_or_else(|| file.damaged("a child's object is not among the group's"))?;
        }
        out.section(Tag::Finals, index, &encode_u64s(&page)).await?;
    }
    out.finish().await?;
    Ok(())
}

/// The final labels of the `open` objects that a block or group left open, from its parent's file in stage `above`.
pub(crate) async fn from_parent(
    store: &Store,
    tree: Tree,
    above: &str,
    child: Contributor,
    open: u64,
) -> Result<Vec<u64>> {
    let (parent, ordinal) = tree.parent(child.level, child.unit);
    let file = Reader::open(store, &layout::scratch(above, parent)).await?;
    let mut labels = Vec::with_capacity(open as usize);
    for page in 0.. {
        if labels.len() as u64 >= open {
            break;
        }
        labels.extend(decode_u64s(&file.require(Tag::Finals, child_page(ordinal, page)).await?));
    }
    if labels.len() as u64 != open {
        return Err(file.damaged("it has more labels than the child has open objects"));
    }
    Ok(labels)
}
