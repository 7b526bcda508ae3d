//! The slow and obvious twin of the label merge: flood fill over the whole array, and objects measured voxel by voxel.

use voxel::Extent;

/// What the table says of an object, as far as a simple program can say the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Object {
    pub(crate) label: u64,
    pub(crate) voxels: u64,
    /// One for each axis the image has; so are the corners of the box.
    pub(crate) centroid: Vec<f64>,
    pub(crate) start: Vec<u64>,
    pub(crate) end: Vec<u64>,
    pub(crate) mean: f64,
    pub(crate) std: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) sum: f64,
    pub(crate) surface_faces: u64,
    pub(crate) border_faces: u64,
    pub(crate) touches_border: bool,
}

/// Connected components of `mask`, numbered from 1 by first voxel; 0 is background.
pub(crate) fn flood_fill(extent: Extent, mask: &[bool], connectivity: u8) -> Vec<u64> {
    let axes_max = match connectivity {
        6 => 1,
        18 => 2,
        _ => 3,
    };
    let steps: Vec<[isize; 3]> = (0..27)
        .map(|i| [i / 9 - 1, i / 3 % 3 - 1, i % 3 - 1])
        .filter(|step: &[isize; 3]| (1..=axes_max).contains(&step.iter().filter(|d| **d != 0).count()))
        .collect();
    let mut labels = vec![0; mask.len()];
    let mut objects = 0;
    for first in 0..mask.len() {
        if !mask[first] || labels[first] != 0 {
            continue;
        }
        objects += 1;
        labels[first] = objects;
        let mut reached = vec![first];
        while let Some(voxel) = reached.pop() {
            for step in &steps {
                let Some(next) = beside(extent, voxel, *step) else { continue };
                if mask[next] && labels[next] == 0 {
                    labels[next] = objects;
                    reached.push(next);
                }
            }
        }
    }
    labels
}

/// The voxel one step away; `None` outside the image.
fn beside(extent: Extent, voxel: usize, step: [isize; 3]) -> Option<usize> {
    let mut at = extent.at(voxel as u64);
    for axis in 0..3 {
        at[axis] = at[axis].checked_add_signed(step[axis]).filter(|i| *i < extent.shape[axis])?;
    }
    Some(extent.linear(at) as usize)
}

/// Drops objects that are too small or, where the border is to be cleared, touch it, and closes the gaps in the numbers.
pub(crate) fn keep(extent: Extent, labels: &mut [u64], min_voxels: u64, clear_border: bool) {
    let all = measured(extent, labels, &vec![0.0; labels.len()]);
    let mut kept = 0;
    let mut new = vec![0];
    for object in all {
        let stays = object.voxels >= min_voxels && !(clear_border && object.touches_border);
        kept += u64::from(stays);
        new.push(if stays { kept } else { 0 });
    }
    labels.iter_mut().for_each(|label| *label = new[*label as usize]);
}

/// Every object of a label image, measured. Intensities are finite multiples of 1/4 that a few million of can be summed
/// in 128 bits, squares included; and foreground touches no other foreground by a face.
pub(crate) fn measured(extent: Extent, labels: &[u64], intensities: &[f64]) -> Vec<Object> {
    let objects = labels.iter().copied().max().unwrap_or(0) as usize;
    let fresh = |label: usize| Object {
        label: label as u64 + 1,
        start: vec![u64::MAX; extent.axes().len()],
        end: vec![0; extent.axes().len()],
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        ..Object::default()
    };
    let mut all: Vec<Object> = (0..objects).map(fresh).collect();
    let mut positions = vec![[0u64; 3]; objects];
    let mut quarters = vec![(0i128, 0i128); objects];
    for (voxel, label) in labels.iter().enumerate().filter(|(_, label)| **label != 0) {
        let i = *label as usize - 1;
        let (object, at) = (&mut all[i], extent.at(voxel as u64));
        object.voxels += 1;
        for (j, axis) in extent.axes().enumerate() {
            positions[i][axis] += at[axis] as u64;
            object.start[j] = object.start[j].min(at[axis] as u64);
            object.end[j] = object.end[j].max(at[axis] as u64 + 1);
            for direction in [-1, 1] {
                let mut step = [0; 3];
                step[axis] = direction;
                match beside(extent, voxel, step) {
                    None => object.border_faces += 1,
                    Some(other) => object.surface_faces += u64::from(labels[other] != *label),
                }
            }
        }
        let value = intensities[voxel];
        object.min = object.min.min(value);
        object.max = object.max.max(value);
        let four = (value * 4.0) as i128;
        quarters[i] = (quarters[i].0 + four, quarters[i].1 + four * four);
    }
    for ((object, at), (sum, squares)) in all.iter_mut().zip(positions).zip(quarters) {
        let n = object.voxels as f64;
        object.centroid = extent.axes().map(|axis| at[axis] as f64 / n).collect();
        object.sum = sum as f64 / 4.0;
        object.mean = object.sum / n;
        let spread = i128::from(object.voxels) * squares - sum * sum;
        object.std = (spread as f64 / 16.0 / (n * n)).sqrt();
        object.touches_border = object.border_faces > 0;
    }
    all
}
