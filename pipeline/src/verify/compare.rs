//! How two images of the same window may differ, and when that is a fault.

use voxel::label::Connectivity;
use voxel::{AnyVolume, Dtype, Region, Volume};

use crate::op::Label;

/// The voxels that are not zero.
pub(super) fn foreground(image: AnyVolume) -> Volume<bool> {
    let region = image.region();
    match voxel::filter::cast(image, region, Dtype::Bool) {
        AnyVolume::Bool(volume) => volume,
        _ => Volume::new(region, vec![false; region.voxels()]),
    }
}

/// The first voxel at which two images differ in a bit.
pub(super) fn difference(anew: &AnyVolume, ours: &AnyVolume) -> Option<String> {
    if anew.dtype() != ours.dtype() {
        return Some(format!("it is {}, but {} was expected", ours.dtype(), anew.dtype()));
    }
    let (region, theirs) = (ours.region(), values(anew));
    let at = values(ours).iter().zip(&theirs).position(|(a, b)| a != b)?;
    Some(format!("voxel {:?} is {}, but {} when computed anew", place(region, at), text(ours, at), text(anew, at)))
}

/// The bits of each voxel.
fn values(image: &AnyVolume) -> Vec<u64> {
    match image {
        AnyVolume::Bool(v) => v.data.iter().map(|v| u64::from(*v)).collect(),
        AnyVolume::U8(v) => v.data.iter().map(|v| u64::from(*v)).collect(),
        AnyVolume::I8(v) => v.data.iter().map(|v| u64::from(v.cast_unsigned())).collect(),
        AnyVolume::U16(v) => v.data.iter().map(|v| u64::from(*v)).collect(),
        AnyVolume::I16(v) => v.data.iter().map(|v| u64::from(v.cast_unsigned())).collect(),
        AnyVolume::U32(v) => v.data.iter().map(|v| u64::from(*v)).collect(),
        AnyVolume::I32(v) => v.data.iter().map(|v| u64::from(v.cast_unsigned())).collect(),
        AnyVolume::U64(v) => v.data.clone(),
        AnyVolume::I64(v) => v.data.iter().map(|v| v.cast_unsigned()).collect(),
        AnyVolume::F32(v) => v.data.iter().map(|v| u64::from(v.to_bits())).collect(),
        AnyVolume::F64(v) => v.data.iter().map(|v| v.to_bits()).collect(),
    }
}

fn text(image: &AnyVolume, at: usize) -> String {
    voxel::with_volume!(image, volume => format!("{:?}", volume.data[at]))
}

/// Coordinates of the voxel at an index of a region's C order.
fn place(region: Region, at: usize) -> [usize; 3] {
    let [_, y, x] = region.shape();
    [region.start[0] + at / (y * x), region.start[1] + at / x % y, region.start[2] + at % x]
}

/// What is wrong with the labels of a foreground.
pub(super) fn labels_fault(mask: &Volume<bool>, labels: &AnyVolume, step: &Label) -> Option<String> {
    let labels = values(labels);
    let dropping = step.min_voxels > 1 || step.max_voxels < u64::MAX || step.clear_border;
    for (at, (inside, label)) in mask.data.iter().zip(&labels).enumerate() {
        let voxel = place(mask.region, at);
        match (inside, label) {
            (false, 1..) => return Some(format!("voxel {voxel:?} is background, but has the label {label}")),
            (true, 0) if !dropping => return Some(format!("voxel {voxel:?} is foreground, but has no label")),
            _ => {}
        }
    }
    parted(mask, &labels, true, step.connectivity, "foreground")
}

/// What is wrong with the holes that were filled.
pub(super) fn holes_fault(mask: &Volume<bool>, filled: &Volume<bool>, whole: Option<Connectivity>) -> Option<String> {
    let lost = mask.data.iter().zip(&filled.data).position(|(before, after)| *before && !after);
    if let Some(at) = lost {
        return Some(format!("voxel {:?} was foreground and is not any more", place(mask.region, at)));
    }
    let filled: Vec<u64> = filled.data.iter().map(|v| u64::from(*v)).collect();
    parted(mask, &filled, false, whole?, "background")
}

/// The neighbours of a voxel that come before it along the axis, z, y or x, in which they first differ.
fn before(here: [usize; 3], shape: [usize; 3], connectivity: Connectivity) -> impl Iterator<Item = [usize; 3]> {
    const STEPS: [isize; 3] = [-1, 0, 1];
    let offsets = STEPS.into_iter().flat_map(|z| STEPS.into_iter().flat_map(move |y| STEPS.map(|x| [z, y, x])));
    let near = move |offset: &[isize; 3]| {
        offset.iter().filter(|step| **step != 0).count() <= connectivity.axes_max() && *offset < [0; 3]
    };
    offsets.filter(near).filter_map(move |offset| {
        let mut there = [0; 3];
        for a in 0..3 {
            there[a] = here[a].checked_add_signed(offset[a]).filter(|i| *i < shape[a])?;
        }
        Some(there)
    })
}

/// Two neighbours, both `of` this kind in the mask, that have different values.
fn parted(mask: &Volume<bool>, values: &[u64], of: bool, connectivity: Connectivity, what: &str) -> Option<String> {
    let shape = mask.region.shape();
    let index = |at: [usize; 3]| (at[0] * shape[1] + at[1]) * shape[2] + at[2];
    for (at, value) in values.iter().enumerate().filter(|(at, _)| mask.data[*at] == of) {
        let here = [at / (shape[1] * shape[2]), at / shape[2] % shape[1], at % shape[2]];
        for there in before(here, shape, connectivity).map(index).filter(|there| mask.data[*there] == of) {
            if values[there] != *value {
                return Some(format!(
                    "voxels {:?} and {:?} are neighbours in the {what}, but have the values {value} and {}",
                    place(mask.region, at),
                    place(mask.region, there),
                    values[there]
                ));
            }
        }
    }
    None
}
