//! Which objects touch, over the whole image: the contacts of all blocks, added up range by range of the smaller label.

use voxel::contacts::Contact;
use voxel::table::{ColumnData, ColumnType};
use voxel::{Dtype, Element, with_dtype};

use super::rank::{Ranges, column_batch};
use crate::plan::memory::BATCH_ROWS;
use crate::rows::RowMerge;
use crate::scratch::{Tag, Writer};
use crate::{Result, layout};

/// Names and types of the columns: the two labels, the smaller first, the voxel faces they share, and the pairs of their
/// voxels that are neighbours. `labels` is the type of the labels.
pub(crate) fn columns(labels: Dtype) -> Vec<(&'static str, ColumnType)> {
    let label = ColumnType::of_labels(labels);
    vec![("label_a", label), ("label_b", label), ("faces", ColumnType::U64), ("pairs", ColumnType::U64)]
}

/// Adds up one range; gives the number of contacts.
pub(crate) async fn merge(ranges: &Ranges<'_>, range: u64) -> Result<u64> {
    let (_, files) = ranges.open::<Contact>(range, ()).await?;
    let labels = ranges.plan.labels_dtype(ranges.table.step);
    let mut out = Writer::create(ranges.store, &layout::scratch(ranges.stage, range)).await?;
    let (mut rows, mut batch, mut batches) = (0, Vec::new(), 0);
    let mut merged = RowMerge::new(files).await?;
    let mut next = merged.next().await?;
    while let Some((_, mut contact)) = next {
        next = merged.next().await?;
        while let Some((_, other)) = &next
            && (other.a, other.b) == (contact.a, contact.b)
        {
            // No image gets there, and a damaged row must not panic.
            contact.faces = contact.faces.saturating_add(other.faces);
            contact.pairs = contact.pairs.saturating_add(other.pairs);
            next = merged.next().await?;
        }
        batch.push(contact);
        rows += 1;
        if batch.len() == BATCH_ROWS {
            write_batch(&mut batch, &mut batches, labels, &mut out).await?;
        }
    }
    if !batch.is_empty() {
        write_batch(&mut batch, &mut batches, labels, &mut out).await?;
    }
    out.finish().await?;
    Ok(rows)
}

async fn write_batch(batch: &mut Vec<Contact>, batches: &mut u64, labels: Dtype, out: &mut Writer) -> Result<()> {
    let columns = [
        labels_of(labels, batch.iter().map(|c| c.a)),
        labels_of(labels, batch.iter().map(|c| c.b)),
        ColumnData::U64(batch.iter().map(|c| c.faces).collect()),
        ColumnData::U64(batch.iter().map(|c| c.pairs).collect()),
    ];
    for (i, column) in columns.iter().enumerate() {
        let mut bytes = Vec::new();
        column.encode(&mut bytes);
        out.section(Tag::Column, column_batch(i, *batches), &bytes).await?;
    }
    batch.clear();
    *batches += 1;
    Ok(())
}

/// The labels that keys stand for.
fn labels_of(dtype: Dtype, keys: impl Iterator<Item = u64>) -> ColumnData {
    // The type has been checked: labels are integers.
    let value = |key: u64| with_dtype!(dtype, T => T::from_key(key).to_i128().unwrap_or(0));
    match ColumnType::of_labels(dtype) {
        ColumnType::I64 => ColumnData::I64(keys.map(|key| value(key) as i64).collect()),
        _ => ColumnData::U64(keys.map(|key| value(key) as u64).collect()),
    }
}
