//! How long cores are busy with a stage, by the rates that the ops state: for the length of segments, the choice of
//! blocks, and the price. Of one thread of a machine of today; it is off by a factor of two here and there.

use super::{Leaf, Pass, Plan, StageKind};

/// Reading and writing a voxel costs about as much as a cheap op.
const MOVE_SECONDS: f64 = 5e-9;

/// What leaving something of a voxel costs beside the ops.
fn leaf_seconds(leaf: &Leaf) -> f64 {
    match leaf {
        Leaf::Count(_) => 0.0,
        Leaf::Image(_) => 2e-9,
        Leaf::Labels { .. } | Leaf::Rows { .. } | Leaf::Contacts { .. } => 2e-8,
    }
}

impl Plan {
    /// Seconds that a unit of a stage takes on one thread, halos left out.
    pub(super) fn unit_seconds(&self, kind: &StageKind) -> f64 {
        let voxels = self.grid.largest().iter().product::<usize>() as f64;
        match kind {
            StageKind::Map(pass) => {
                let ops: f64 = self.ops_of(pass).iter().map(|op| 1.0 / op.rate()).sum();
                let leaves: f64 = pass.leaves.iter().map(leaf_seconds).sum();
                voxels * (ops + MOVE_SECONDS + leaves)
            }
            StageKind::Relabel { .. } => voxels * MOVE_SECONDS,
            StageKind::Seam { .. } => 0.02,
            StageKind::Up { .. } | StageKind::Down { .. } => 0.2,
            StageKind::Rank(_) | StageKind::Table(_) | StageKind::Publish => 1.0,
            StageKind::Level { image, level } => {
                let unit = self.stored(*image).map(|stored| stored.level_spec(*level).unit_shape());
                8.0 * unit.map_or(1, |unit| unit.iter().product::<usize>()) as f64 * 4e-9
            }
        }
    }

    /// Seconds that so many units of a stage take on one thread, with what is computed of halos.
    pub fn cpu_seconds(&self, stage: usize, units: u64) -> f64 {
        match &self.stages[stage].kind {
            StageKind::Map(pass) => {
                let all = self.grid.units().max(1);
                self.pass_seconds(pass) * units.min(all) as f64 / all as f64
            }
            kind => units as f64 * self.unit_seconds(kind),
        }
    }

    /// Regions are made axis by axis: so their voxels, summed over all blocks, are products of sums along the axes.
    fn pass_seconds(&self, pass: &Pass) -> f64 {
        let first = self.grid.region(0);
        let mut voxels = vec![1.0; pass.to - pass.from + 1];
        for a in 0..3 {
            let mut sums = vec![0.0; voxels.len()];
            for i in 0..self.grid.counts()[a] {
                let mut block = first;
                block.start[a] = i * self.grid.block[a];
                block.end[a] = ((i + 1) * self.grid.block[a]).min(self.extent.shape[a]);
                for (sum, region) in sums.iter_mut().zip(self.regions(pass, block)) {
                    *sum += region.shape()[a] as f64;
                }
            }
            voxels.iter_mut().zip(sums).for_each(|(product, sum)| *product *= sum);
        }
        let ops: f64 = self.ops_of(pass).iter().zip(&voxels[1..]).map(|(op, voxels)| voxels / op.rate()).sum();
        let all = self.extent.region().voxels() as f64;
        ops + voxels[0] * MOVE_SECONDS + all * pass.leaves.iter().map(leaf_seconds).sum::<f64>()
    }
}
