//! A region of interest: what lies outside a mask is background, and is left out of statistics.

use crate::{AnyVolume, Element, Region, Volume, with_volume};

/// Sets every voxel outside the mask to 0. `mask` covers the image.
///
/// # Panics
/// When the mask covers less than the image.
pub fn within(image: &mut AnyVolume, mask: &Volume<bool>) {
    with_volume!(image, image => {
        assert!(mask.region.contains(&image.region), "the mask covers {:?}", mask.region);
        let region = image.region;
        let columns = region.start[2] - mask.region.start[2]..region.end[2] - mask.region.start[2];
        let width = region.shape()[2];
        let mut rows = image.data.chunks_exact_mut(width.max(1));
        for z in region.start[0]..region.end[0] {
            for y in region.start[1]..region.end[1] {
                let inside = &mask.row(z, y)[columns.clone()];
                for (value, inside) in rows.next().into_iter().flatten().zip(inside) {
                    if !inside {
                        *value = Default::default();
                    }
                }
            }
        }
    });
}

/// The values of the voxels of `region` that lie inside the mask, one after the other in C order. Both volumes cover the
/// region.
///
/// # Panics
/// When one of them covers less.
pub fn inside(image: &AnyVolume, mask: &Volume<bool>, region: Region) -> AnyVolume {
    with_volume!(image, image => gather(image, mask, region).into())
}

fn gather<T: Element>(image: &Volume<T>, mask: &Volume<bool>, region: Region) -> Volume<T> {
    let columns = |of: Region| region.start[2] - of.start[2]..region.end[2] - of.start[2];
    let mut values = Vec::new();
    for z in region.start[0]..region.end[0] {
        for y in region.start[1]..region.end[1] {
            let row = &image.row(z, y)[columns(image.region)];
            let inside = &mask.row(z, y)[columns(mask.region)];
            values.extend(row.iter().zip(inside).filter(|(_, inside)| **inside).map(|(value, _)| *value));
        }
    }
    Volume::new(Region::whole([1, 1, values.len()]), values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_is_zero_and_not_gathered() {
        let region = Region { start: [1, 2, 3], end: [2, 4, 6] };
        let mut image: AnyVolume = Volume::new(region, vec![1u16, 2, 3, 4, 5, 6]).into();
        let around = region.grown([1; 3], [9; 3]);
        let mut mask = Volume::new(around, vec![false; around.voxels()]);
        let at = |z: usize, y: usize, x: usize| {
            let [_, height, width] = around.shape();
            ((z - around.start[0]) * height + y - around.start[1]) * width + x - around.start[2]
        };
        for place in [at(1, 2, 4), at(1, 3, 3), at(1, 3, 5)] {
            mask.data[place] = true;
        }
        let row = Region { start: [1, 3, 3], end: [2, 4, 6] };
        let expected: AnyVolume = Volume::new(Region::whole([1, 1, 2]), vec![4u16, 6]).into();
        assert_eq!(inside(&image, &mask, row), expected);
        within(&mut image, &mask);
        let expected: AnyVolume = Volume::new(region, vec![0u16, 2, 0, 4, 0, 6]).into();
        assert_eq!(image, expected);
    }
}
