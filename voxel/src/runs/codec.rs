//! Runs as bytes, for the scratch object of a block. Integers are varints: the number of labels, then for each row the
//! number of its runs and for each run the background voxels before it, its length and its label.

use super::{Run, Runs, VOXELS_MAX};
use crate::{Region, varint};

/// A run takes at least one byte each for gap, length and label.
const RUN_BYTES_MIN: usize = 3;

impl Runs {
    /// Appends the runs. The region is not written: whoever decodes knows which block it asked for.
    pub fn encode(&self, out: &mut Vec<u8>) {
        varint::push(u64::from(self.labels), out);
        for (_, _, runs) in self.by_row() {
            varint::push(runs.len() as u64, out);
            let mut x = 0;
            for run in runs {
                varint::push(u64::from(run.x - x), out);
                varint::push(u64::from(run.len), out);
                varint::push(u64::from(run.label), out);
                x = run.end();
            }
        }
    }

    /// The runs of `region` from what [`Runs::encode`] wrote, all of `bytes`. `None` unless the runs are ordered, lie
    /// inside their rows, are labelled 1 to the number of labels, and are at least as many as the labels.
    pub fn decode(region: Region, mut bytes: &[u8]) -> Option<Self> {
        let [depth, height, width] = region.shape();
        let (rows_len, runs_max) = (depth * height, bytes.len() / RUN_BYTES_MIN);
        // Each row takes at least the byte of its run count: damaged bytes can't make this allocate without bound.
        if region.voxels() > VOXELS_MAX || rows_len > bytes.len() {
            return None;
        }
        let labels = u32::try_from(varint::take(&mut bytes)?).ok()?;
        let mut rows = Vec::with_capacity(rows_len + 1);
        let mut runs = Vec::new();
        rows.push(0);
        for _ in 0..rows_len {
            let in_row = usize::try_from(varint::take(&mut bytes)?).ok()?;
            if in_row > width || runs.len() + in_row > runs_max {
                return None;
            }
            let mut before = 0u64;
            for _ in 0..in_row {
                let x = before.checked_add(varint::take(&mut bytes)?)?;
                let len = varint::take(&mut bytes)?;
                let label = u32::try_from(varint::take(&mut bytes)?).ok()?;
                before = x.checked_add(len)?;
                if len == 0 || before > width as u64 || label == 0 || label > labels {
                    return None;
                }
                runs.push(Run { x: x as u32, len: len as u32, label });
            }
            rows.push(u32::try_from(runs.len()).ok()?);
        }
        (bytes.is_empty() && labels as usize <= runs.len()).then_some(Self { region, rows, runs, labels })
    }
}
