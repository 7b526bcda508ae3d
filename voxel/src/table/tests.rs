#![allow(clippy::unwrap_used)]

use super::*;
use crate::label::{Connectivity, label};
use crate::runs::{Runs, of_values};
use crate::{AnyVolume, Dtype, Element, Extent, Region, Volume};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Rows of the objects named by `ids` (0 is none), voxel by voxel and face by face. The key is the first voxel.
fn slow(ids: &Volume<i64>, intensity: Option<&Volume<f32>>, extent: Extent) -> BTreeMap<i64, ObjectRow> {
    let mut rows = BTreeMap::new();
    for linear in 0..ids.data.len() as u64 {
        let at = extent.at(linear);
        let id = ids.data[linear as usize];
        if id == 0 {
            continue;
        }
        let mut voxel = ObjectRow { key: linear, voxels: 1, ..ObjectRow::identity() };
        voxel.sums = at.map(|i| i as u128);
        voxel.products = PAIRS.map(|(a, b)| (at[a] * at[b]) as u128);
        voxel.start = at.map(|i| i as u64);
        voxel.end = at.map(|i| i as u64 + 1);
        for axis in extent.axes() {
            for step in [-1, 1] {
                let mut beside = at;
                beside[axis] = beside[axis].wrapping_add_signed(step);
                if beside[axis] >= extent.shape[axis] {
                    voxel.border_faces += 1;
                } else if ids.data[ids.offset(beside)] != id {
                    voxel.surface_faces += 1;
                }
            }
        }
        voxel.intensity = intensity.map(|intensity| {
            let v = intensity.data[linear as usize];
            let mut one = Intensity::new(Kind::F32);
            one.moments.add(v);
            if v.is_finite() {
                (one.min_key, one.max_key) = (v.key(), v.key());
            }
            one
        });
        rows.entry(id).or_insert_with(ObjectRow::identity).merge(voxel);
    }
    rows
}

/// Cuts an image of `shape` into a block for each combination of intervals between the cuts.
fn blocks(shape: [usize; 3], cuts: [usize; 3]) -> Vec<Region> {
    let parts = |axis: usize| {
        let cut = cuts[axis].min(shape[axis]);
        [(0, cut), (cut, shape[axis])].into_iter().filter(|(start, end)| start < end)
    };
    let mut all = Vec::new();
    for (z0, z1) in parts(0) {
        for (y0, y1) in parts(1) {
            all.extend(parts(2).map(|(x0, x1)| Region { start: [z0, y0, x0], end: [z1, y1, x1] }));
        }
    }
    all
}

#[derive(Clone, Debug)]
struct Case {
    extent: Extent,
    ids: Vec<i64>,
    intensities: Vec<f32>,
    cuts: [usize; 3],
}

impl Case {
    fn ids(&self) -> Volume<i64> {
        Volume::new(self.extent.region(), self.ids.clone())
    }

    fn intensity(&self) -> Volume<f32> {
        Volume::new(self.extent.region(), self.intensities.clone())
    }
}

prop_compose! {
    fn cases()(
        shape in [1usize..5, 1usize..5, 1usize..9],
        flat in any::<bool>(),
        planar in any::<bool>(),
        cuts in [0usize..5, 0usize..5, 0usize..9],
        id in prop_oneof![Just(0i64..2), Just(-2i64..3), Just(0i64..1), Just(1i64..2)],
    )(
        ids in prop::collection::vec(id, shape.iter().product::<usize>()),
        intensities in prop::collection::vec(
            prop_oneof![any::<f32>(), -3.0f32..3.0, Just(f32::NAN)], shape.iter().product::<usize>(),
        ),
        shape in Just(shape), flat in Just(flat), planar in Just(planar), cuts in Just(cuts),
    ) -> Case {
        // A planar image has one z plane; one z plane alone doesn't make an image planar.
        let shape = if flat || planar { [1, shape[1], shape[2]] } else { shape };
        let voxels = shape.iter().product();
        Case {
            extent: Extent { shape, planar },
            ids: ids[..voxels].to_vec(),
            intensities: intensities[..voxels].to_vec(),
            cuts,
        }
    }
}

/// Measures block by block, each block seeing no more than its rim, and merges the rows by `key_of(row)`.
fn merged(case: &Case, one_block: impl Fn(Region, AnyVolume, AnyVolume) -> Vec<ObjectRow>) -> BTreeMap<u64, ObjectRow> {
    let mut all: BTreeMap<u64, ObjectRow> = BTreeMap::new();
    for block in blocks(case.extent.shape, case.cuts) {
        let rim = block.grown([1; 3], case.extent.shape);
        for row in one_block(block, case.ids().cropped(rim).into(), case.intensity().cropped(block).into()) {
            all.entry(row.key).or_insert_with(ObjectRow::identity).merge(row);
        }
    }
    all
}

proptest! {
    #[test]
    fn objects_by_value_equal_voxel_by_voxel_however_they_are_cut(case in cases()) {
        let found = merged(&case, |block, values, intensity| {
            let (runs, ids) = of_values(&values, block);
            let objects = Objects::Values(&ids);
            let whole = measure(&runs, 1..runs.labels + 1, &values, objects, Some(&intensity), case.extent);
            // In passes of two labels, the last reaching beyond them.
            let mut passes = Vec::new();
            for first in (1..runs.labels + 1).step_by(2) {
                passes.extend(measure(&runs, first..first + 2, &values, objects, Some(&intensity), case.extent));
            }
            assert_eq!(&passes[..whole.len()], &whole);
            whole
        });
        let slow = slow(&case.ids(), Some(&case.intensity()), case.extent).into_iter();
        let slow: BTreeMap<u64, ObjectRow> =
            slow.map(|(id, row)| (id.key(), ObjectRow { key: id.key(), ..row })).collect();
        prop_assert_eq!(found, slow);
    }

    #[test]
    fn components_equal_voxel_by_voxel(case in cases(), with_intensity in any::<bool>()) {
        let mask: AnyVolume = case.ids().into();
        let intensity = case.intensity();
        let runs = label(&mask, case.extent.region(), Connectivity::Eighteen);
        let any = with_intensity.then(|| intensity.clone().into());
        let found = measure(&runs, 1..runs.labels + 1, &mask, Objects::Components, any.as_ref(), case.extent);
        let slow = slow(&runs.paint(i64::from), with_intensity.then_some(&intensity), case.extent);
        prop_assert_eq!(found, slow.into_values().collect::<Vec<_>>());
    }

    #[test]
    fn all_foreground_as_one_component_merges_over_blocks(case in cases()) {
        let ones = Case { ids: vec![1; case.ids.len()], ..case };
        let rows = |block, values: AnyVolume, intensity: AnyVolume| {
            let runs = label(&values, block, Connectivity::Six);
            measure(&runs, 1..runs.labels + 1, &values, Objects::Components, Some(&intensity), ones.extent)
        };
        let mut whole = ObjectRow::identity();
        for row in merged(&ones, rows).into_values() {
            whole.merge(row);
        }
        prop_assert_eq!(Some(whole), slow(&ones.ids(), Some(&ones.intensity()), ones.extent).remove(&1));
    }

    #[test]
    fn merging_rows_obeys_the_law(case in cases(), order in any::<[usize; 2]>()) {
        let rows: Vec<ObjectRow> = slow(&case.ids(), Some(&case.intensity()), case.extent).into_values().collect();
        let join = |a: &ObjectRow, b: &ObjectRow| {
            let mut joined = a.clone();
            joined.merge(b.clone());
            joined
        };
        for a in &rows {
            prop_assert_eq!(&join(a, &ObjectRow::identity()), a);
            prop_assert_eq!(&join(&ObjectRow::identity(), a), a);
            let [b, c] = order.map(|i| &rows[i % rows.len()]);
            prop_assert_eq!(join(a, b), join(b, a));
            prop_assert_eq!(join(&join(a, b), c), join(a, &join(b, c)));
        }
    }

    #[test]
    fn rows_come_back_from_bytes(case in cases(), with_intensity in any::<bool>()) {
        let intensity = case.intensity();
        let kind = with_intensity.then_some(Kind::F32);
        for row in slow(&case.ids(), with_intensity.then_some(&intensity), case.extent).into_values() {
            let mut bytes = Vec::new();
            row.encode(kind, &mut bytes);
            prop_assert_eq!(bytes.len(), ObjectRow::bytes(kind));
            prop_assert_eq!(ObjectRow::decode(kind, &bytes), Some(row));
            prop_assert_eq!(ObjectRow::decode(kind, &bytes[1..]), None);
            prop_assert_eq!(ObjectRow::decode(Some(Kind::F64), &bytes), None);
        }
    }

    #[test]
    fn eigenvalues_are_those_of_the_covariance_of_the_voxels(case in cases()) {
        let ids = case.ids();
        for (id, row) in slow(&ids, None, case.extent) {
            let voxels: Vec<[f64; 3]> = (0..ids.data.len())
                .filter(|i| ids.data[*i] == id)
                .map(|i| case.extent.at(i as u64).map(|index| index as f64))
                .collect();
            let n = voxels.len() as f64;
            let mean: [f64; 3] = std::array::from_fn(|a| voxels.iter().map(|v| v[a]).sum::<f64>() / n);
            let covariance = |a: usize, b: usize| {
                voxels.iter().map(|v| (v[a] - mean[a]) * (v[b] - mean[b])).sum::<f64>() / n
            };
            let found = row.eigenvalues([1.0; 3]);
            prop_assert!(found[0] >= found[1] && found[1] >= found[2] && found[2] >= 0.0);
            // Trace and the sum of squares of a symmetric matrix are sums over its eigenvalues.
            let trace: f64 = (0..3).map(|a| covariance(a, a)).sum();
            let squares: f64 = (0..9).map(|i| covariance(i / 3, i % 3).powi(2)).sum();
            prop_assert!((found.iter().sum::<f64>() - trace).abs() < 1e-9);
            prop_assert!((found.iter().map(|e| e * e).sum::<f64>() - squares).abs() < 1e-9);
            for a in 0..3 {
                prop_assert!((row.centroid()[a] - mean[a]).abs() < 1e-9);
            }
        }
    }
}

#[test]
fn a_box_far_from_the_origin_has_the_moments_of_a_box() {
    // A 4x2x1 bar in an image of 2^62 voxels: its variances are (n^2 - 1) / 12, to the last bit.
    let (start, shape) = ([1 << 23, 1 << 19, 1 << 17], [4, 2, 1]);
    let extent = Extent { shape: [1 << 24, 1 << 20, 1 << 18], planar: false };
    let region = Region::new(start, shape).grown([1; 3], extent.shape);
    let mut mask = Volume::<bool>::zeros(region);
    for z in 0..4 {
        for y in 0..2 {
            let offset = mask.offset([start[0] + z, start[1] + y, start[2]]);
            mask.data[offset] = true;
        }
    }
    let mask = mask.into();
    let runs = label(&mask, Region::new(start, shape), Connectivity::Six);
    let row = &measure(&runs, 1..2, &mask, Objects::Components, None, extent)[0];
    assert_eq!(row.key, (1 << 61) + (1 << 37) + (1 << 17));
    assert_eq!(row.eigenvalues([1.0; 3]), [1.25, 0.25, 0.0]);
    assert_eq!(row.centroid(), [8388609.5, 524288.5, 131072.0]);
    assert_eq!((row.surface_faces, row.border_faces), (28, 0));
}

#[test]
fn columns_of_a_volume_and_of_a_planar_image() {
    let names = |columns: &Columns| columns.columns().iter().map(|c| c.name).collect::<Vec<_>>().join(" ");
    let volume = Columns::new(false, Dtype::U64, Some(Dtype::U16), Spacing::default());
    assert_eq!(
        names(&volume),
        "label voxels centroid_z centroid_y centroid_x bbox_z0 bbox_y0 bbox_x0 bbox_z1 bbox_y1 bbox_x1 intensity_mean \
         intensity_std intensity_min intensity_max intensity_sum eigenvalue_1 eigenvalue_2 eigenvalue_3 anisotropy \
         surface_faces border_faces touches_border"
    );
    let planar = Columns::new(true, Dtype::I16, None, Spacing::default());
    assert_eq!(
        names(&planar),
        "label voxels centroid_y centroid_x bbox_y0 bbox_x0 bbox_y1 bbox_x1 eigenvalue_1 eigenvalue_2 anisotropy \
         surface_faces border_faces touches_border"
    );
    let kind = |columns: &Columns, name: &str| columns.columns().iter().find(|c| c.name == name).unwrap().kind;
    assert_eq!(kind(&volume, "label"), ColumnType::U64);
    assert_eq!(kind(&planar, "label"), ColumnType::I64);
    for dtype in Dtype::ALL {
        let columns = Columns::new(false, Dtype::U64, Some(dtype), Spacing::default());
        let expected = match dtype {
            Dtype::U64 => ColumnType::U64,
            Dtype::F32 | Dtype::F64 => ColumnType::F64,
            _ => ColumnType::I64,
        };
        assert_eq!((kind(&columns, "intensity_min"), kind(&columns, "intensity_max")), (expected, expected));
    }
}

/// The finished columns of the objects of one image, by name.
fn table<T: Element, I: Element>(
    ids: &Volume<T>,
    intensity: Volume<I>,
    planar: bool,
) -> BTreeMap<&'static str, ColumnData>
where
    AnyVolume: From<Volume<T>> + From<Volume<I>>,
{
    let extent = Extent { shape: ids.region.shape(), planar };
    let (values, intensity): (AnyVolume, AnyVolume) = (ids.clone().into(), intensity.into());
    let (runs, keys): (Runs, Vec<u64>) = of_values(&values, ids.region);
    let rows = measure(&runs, 1..runs.labels + 1, &values, Objects::Values(&keys), Some(&intensity), extent);
    let columns = Columns::new(planar, T::DTYPE, Some(I::DTYPE), Spacing::default());
    let data = columns.finish(rows.iter().map(|row| (row.key, row)));
    for (column, data) in columns.columns().iter().zip(&data) {
        assert_eq!((column.kind, data.len(), data.is_empty()), (data.kind(), rows.len(), false));
        let mut bytes = Vec::new();
        data.encode(&mut bytes);
        let mut again = Vec::new();
        ColumnData::decode(column.kind, &bytes).unwrap().encode(&mut again);
        assert_eq!(again, bytes, "{}", column.name);
    }
    columns.columns().iter().map(|c| c.name).zip(data).collect()
}

#[test]
fn a_planar_table_by_hand() {
    let region = Region::whole([1, 2, 4]);
    let ids = Volume::new(region, vec![-5i16, -5, -5, 0, 9, 0, 0, 9]);
    let intensity = Volume::new(region, vec![1i8, -2, 4, 0, 100, 0, 0, 50]);
    let table = table(&ids, intensity, true);
    let is = |name: &str, data: ColumnData| assert_eq!(table[name], data, "{name}");
    is("label", ColumnData::I64(vec![-5, 9]));
    is("voxels", ColumnData::U64(vec![3, 2]));
    is("centroid_y", ColumnData::F64(vec![0.0, 1.0]));
    is("centroid_x", ColumnData::F64(vec![1.0, 1.5]));
    is("bbox_y0", ColumnData::I64(vec![0, 1]));
    is("bbox_y1", ColumnData::I64(vec![1, 2]));
    is("bbox_x1", ColumnData::I64(vec![3, 4]));
    is("intensity_mean", ColumnData::F64(vec![1.0, 75.0]));
    is("intensity_std", ColumnData::F64(vec![6.0f64.sqrt(), 25.0]));
    is("intensity_min", ColumnData::I64(vec![-2, 50]));
    is("intensity_max", ColumnData::I64(vec![4, 100]));
    is("intensity_sum", ColumnData::F64(vec![3.0, 150.0]));
    is("eigenvalue_1", ColumnData::F64(vec![6.0 / 9.0, 2.25]));
    is("eigenvalue_2", ColumnData::F64(vec![0.0, 0.0]));
    is("anisotropy", ColumnData::F64(vec![1.0, 1.0]));
    is("surface_faces", ColumnData::U64(vec![4, 4]));
    is("border_faces", ColumnData::U64(vec![4, 4]));
    is("touches_border", ColumnData::Bool(vec![true, true]));
}

#[test]
fn an_object_without_finite_intensity_has_nan_and_a_sum_of_zero() {
    let region = Region::whole([1, 3, 3]);
    let ids = Volume::new(region, vec![0u8, 0, 0, 0, 3, 0, 0, 0, 0]);
    let table = table(&ids, Volume::new(region, vec![f64::INFINITY; 9]), true);
    for name in ["intensity_mean", "intensity_std", "intensity_min", "intensity_max"] {
        assert!(matches!(&table[name], ColumnData::F64(v) if v[0].is_nan()), "{name}");
    }
    assert_eq!(table["intensity_sum"], ColumnData::F64(vec![0.0]));
    assert_eq!(table["anisotropy"], ColumnData::F64(vec![0.0]), "of a single voxel");
    assert_eq!(table["touches_border"], ColumnData::Bool(vec![false]));
    assert_eq!(table["label"], ColumnData::U64(vec![3]));
}

#[test]
fn the_widest_integers_stay_whole() {
    let region = Region::whole([1, 1, 2]);
    let ids = Volume::new(region, vec![u64::MAX, u64::MAX - 1]);
    let table = table(&ids, Volume::new(region, vec![u64::MAX, (1 << 53) + 1]), false);
    assert_eq!(table["label"], ColumnData::U64(vec![u64::MAX - 1, u64::MAX]));
    assert_eq!(table["intensity_min"], ColumnData::U64(vec![(1 << 53) + 1, u64::MAX]));
}

#[test]
fn damaged_columns_are_refused() {
    assert_eq!(ColumnData::decode(ColumnType::U64, &[0; 9]), None);
    assert_eq!(ColumnData::decode(ColumnType::Bool, &[0, 1, 2]), None);
}
