//! Slow, obvious twins, the laws of merging, and cases run through numpy and scikit-image.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::exact_sum::{Kind, Moments};
use crate::{AnyElement, AnyVolume, Dtype, Region, Volume, with_dtype};

fn line<T: AnyElement>(values: &[T]) -> AnyVolume {
    T::wrap(Volume::new(Region::whole([1, 1, values.len()]), values.to_vec()))
}

fn tally_of<T: AnyElement>(values: &[T]) -> Tally {
    let volume = line(values);
    let mut tally = Tally::new(T::DTYPE);
    tally.add(&volume, volume.region());
    tally
}

fn bytes_of(tally: &Tally) -> Vec<u8> {
    let mut bytes = Vec::new();
    tally.encode(&mut bytes);
    bytes
}

/// The tally by the book: one value at a time into a map.
fn check_tally<T: AnyElement>(values: &[T]) {
    let tally = tally_of(values);
    let finite: Vec<T> = values.iter().copied().filter(|v| v.is_finite()).collect();
    let number = |keep: fn(f64) -> bool| values.iter().filter(|v| keep(v.to_f64())).count() as u64;
    assert_eq!(tally.voxels(), values.len() as u64);
    assert_eq!(tally.finite(), finite.len() as u64);
    assert_eq!(tally.nan(), number(f64::is_nan));
    assert_eq!(tally.posinf(), number(|v| v == f64::INFINITY));
    assert_eq!(tally.neginf(), number(|v| v == f64::NEG_INFINITY));
    let mut moments = Moments::new(Kind::of(T::DTYPE));
    finite.iter().for_each(|v| moments.add(*v));
    assert_eq!(tally.moments(), &moments);

    let mut keys: Vec<u64> = finite.iter().map(|v| v.key()).collect();
    keys.sort_unstable();
    let span = keys.first().copied().zip(keys.last().copied());
    assert_eq!(tally.key_range(), span);
    let by_value = T::BITS <= 16 || (!T::DTYPE.is_float() && span.is_none_or(|(a, b)| b - a < VALUES_MAX));
    let (shift, first, counts) = tally.prefixes();
    assert_eq!(shift, if by_value { 0 } else { T::BITS - 16 });
    assert_eq!(tally.values().is_some(), span.is_some() && by_value && !T::DTYPE.is_float());
    let mut expected = BTreeMap::new();
    keys.iter().for_each(|key| *expected.entry(key >> shift).or_insert(0u64) += 1);
    let found: BTreeMap<u64, u64> =
        counts.iter().enumerate().map(|(i, c)| (first + i as u64, *c)).filter(|(_, c)| *c != 0).collect();
    assert_eq!(found, expected);
    assert!(counts.first() != Some(&0) && counts.last() != Some(&0));
}

/// Any split, grouping and order of the parts gives the same bytes, and bytes give back the tally.
fn check_laws<T: AnyElement>(values: &[T], cuts: (usize, usize)) {
    let whole = bytes_of(&tally_of(values));
    let (mut a, mut b) = (cuts.0 % (values.len() + 1), cuts.1 % (values.len() + 1));
    (a, b) = (a.min(b), a.max(b));
    let parts = [&values[..a], &values[a..b], &values[b..]].map(|part| Some(tally_of(part)));
    let join = |first: &Option<Tally>, second: &Option<Tally>| {
        let mut joined = first.clone();
        joined.merge(second.clone());
        joined
    };
    let [x, y, z] = &parts;
    let empty = Some(Tally::new(T::DTYPE));
    for joined in [
        join(&join(x, y), z),
        join(x, &join(y, z)),
        join(&join(z, x), y),
        join(&join(&empty, &join(z, &join(y, x))), &empty),
        join(&Merge::identity(), &join(&join(x, y), &join(z, &Merge::identity()))),
    ] {
        assert_eq!(bytes_of(&joined.unwrap()), whole);
    }
    assert_eq!(bytes_of(&Tally::decode(&whole).unwrap()), whole);
    for length in 0..whole.len() {
        assert_eq!(Tally::decode(&whole[..length]), None);
    }
}

fn check_percentiles<T: AnyElement>(values: &[T], percents: &[f64]) {
    let mut sorted: Vec<T> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_by_key(|v| v.key());
    let tally = tally_of(values);
    let Some(mut search) = PercentileSearch::new(&tally, percents) else {
        assert!(sorted.is_empty());
        return;
    };
    let mut passes = 0;
    while let Some(empty) = search.wanted() {
        let (head, tail) = values.split_at(values.len() / 3);
        let [mut pass, other] = [head, tail].map(|part| {
            let mut pass = empty.clone();
            let volume = line(part);
            pass.add(&volume, volume.region());
            let mut bytes = Vec::new();
            pass.encode(&mut bytes);
            assert_eq!(Refine::decode(&bytes[1..]), None);
            assert_eq!(Refine::decode(&bytes[..bytes.len() - 1]), None);
            Refine::decode(&bytes).unwrap()
        });
        pass.merge(&other);
        assert_eq!(search.values(), None);
        // An empty pass holds no voxel of any rank.
        assert_eq!(search.clone().refined(&empty), None);
        search = search.refined(&pass).unwrap();
        passes += 1;
    }
    assert_eq!(passes, tally.prefixes().0 / 16);
    let found = search.values().unwrap();
    for (percent, found) in percents.iter().zip(found) {
        let position = (sorted.len() - 1) as f64 * (percent / 100.0);
        let (lower, weight) = (position.floor() as usize, position.fract());
        let (a, b) = (sorted[lower].to_f64(), sorted[(lower + 1).min(sorted.len() - 1)].to_f64());
        let expected = if weight < 0.5 { a + (b - a) * weight } else { b - (b - a) * (1.0 - weight) };
        if (b - a).is_finite() {
            assert_eq!(found, expected, "{percent} of {sorted:?}");
        }
        assert!(found.is_finite());
        let near = approximate_percentile(&tally, *percent).unwrap();
        if near.bound.is_finite() && (b - a).is_finite() {
            // The bound itself was rounded once.
            assert!(near.value <= found && found <= near.value + near.bound * (1.0 + f64::EPSILON), "{near:?} {found}");
            assert!(tally.prefixes().0 > 0 || near == Approximate { value: found, bound: 0.0 });
        }
    }
}

/// Values of a type from random bits: all of them, few of them, or close together around one.
fn values_of<T: AnyElement>(seeds: &[u64], style: u8) -> Vec<T> {
    let middle = seeds.first().copied().unwrap_or(0) >> (64 - T::BITS);
    let max = u64::MAX >> (64 - T::BITS);
    let key = |seed: &u64| match style % 5 {
        0 => seed & max,
        1 => (seed % 4) & max,
        2 => middle.saturating_add(seed % 70_000).min(max),
        3 => max - seed % 300 % max,
        _ => middle.saturating_sub(seed % 65_600),
    };
    let special = |seed: &u64| match seed % 16 {
        0 => Some(f64::NAN),
        1 => Some(f64::INFINITY),
        2 => Some(f64::NEG_INFINITY),
        _ => None,
    };
    let value = |seed: &u64| match special(seed).filter(|_| T::DTYPE.is_float()) {
        Some(special) => T::from_f64(special),
        // Keys below that of -Inf belong to no value; going through the value makes them one.
        None => T::from_key(T::from_key(key(seed)).key()),
    };
    seeds.iter().map(value).collect()
}

fn dtype() -> impl Strategy<Value = Dtype> {
    prop::sample::select(Dtype::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn tally_equals_its_twin(dtype in dtype(), seeds in prop::collection::vec(any::<u64>(), 0..40), style: u8) {
        with_dtype!(dtype, T => check_tally::<T>(&values_of(&seeds, style)));
    }

    #[test]
    fn percentiles_equal_a_sort(
        dtype in dtype(),
        seeds in prop::collection::vec(any::<u64>(), 1..40),
        style: u8,
        percent in 0.0..100.0,
    ) {
        with_dtype!(dtype, T => check_percentiles::<T>(&values_of(&seeds, style), &[0.0, 50.0, percent, 100.0]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn tallies_join_any_way(
        dtype in dtype(),
        seeds in prop::collection::vec(any::<u64>(), 0..8),
        style in 1u8..5,
        cuts: (usize, usize),
    ) {
        with_dtype!(dtype, T => check_laws::<T>(&values_of(&seeds, style), cuts));
    }

    #[test]
    fn damaged_bytes_never_panic(
        seeds in prop::collection::vec(any::<u64>(), 1..6),
        at: usize,
        byte: u8,
    ) {
        let mut bytes = bytes_of(&tally_of(&values_of::<u32>(&seeds, 2)));
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Some(damaged) = Tally::decode(&bytes) {
            let mut joined = damaged.clone();
            joined.merge(&damaged);
            HistogramReport::from_tally("input", &joined);
            if let Some(search) = PercentileSearch::new(&joined, &[50.0]) {
                search.wanted();
                search.values();
            }
        }
        EvenBins::decode(&bytes);
        Refine::decode(&bytes);
    }

    #[test]
    fn even_bins_hold_what_lies_between_their_edges(
        values in prop::collection::vec(prop_oneof![-2.0..3.0, Just(0.0), Just(1.0), any::<f64>(), (-20i32..30).prop_map(|i| f64::from(i) / 10.0)], 0..50),
        bins in 1usize..40,
        range in prop::sample::select(vec![(0.0, 1.0), (-2.0, 2.9), (0.5, 0.5), (f64::MIN, f64::MAX), (0.0, 1e-322)]),
    ) {
        let (lo, hi) = range;
        let (volume, mut found) = (line(&values), EvenBins::new(lo, hi, bins).unwrap());
        found.add(&volume, volume.region());
        let ruler = even_bins::Ruler::new(lo, hi, bins);
        let mut expected = vec![0; bins];
        for v in values.iter().filter(|v| lo <= **v && **v <= hi) {
            let scaled = v * ruler.scale;
            // The last bin that starts at or below the value.
            expected[(0..bins).rev().find(|i| ruler.edge(*i) <= scaled).unwrap()] += 1;
        }
        if hi > 1e-300 {
            prop_assert_eq!(found.counts(), &expected[..]);
        }
        prop_assert_eq!(found.counts().iter().sum::<u64>(), expected.iter().sum::<u64>());

        let mut joined: Option<EvenBins> = Merge::identity();
        for part in [&values[values.len() / 2..], &values[..values.len() / 2]] {
            let (volume, mut bins) = (line(part), EvenBins::new(lo, hi, bins).unwrap());
            bins.add(&volume, volume.region());
            joined.merge(Some(bins));
        }
        let mut bytes = Vec::new();
        found.encode(&mut bytes);
        prop_assert_eq!(joined, EvenBins::decode(&bytes));
        prop_assert_eq!(EvenBins::decode(&bytes[1..]), None);
    }
}

#[test]
fn a_part_of_a_volume_counts_as_its_own_voxels() {
    let region = Region::new([1, 2, 3], [4, 5, 7]);
    let volume = Volume::new(region, (0..140u32).map(|v| v * v * 40).collect());
    for part in [
        region,
        Region::new([2, 2, 3], [2, 5, 7]),
        Region::new([1, 3, 4], [4, 1, 5]),
        Region::new([4, 6, 9], [1, 1, 1]),
    ] {
        let mut tally = Tally::new(Dtype::U32);
        tally.add(&volume.clone().into(), part);
        assert_eq!(tally, tally_of(&volume.cropped(part).data));
    }
}

#[test]
fn values_are_kept_up_to_their_number_and_then_gone_for_good() {
    assert_eq!(tally_of(&[5u32, 65540]).values().unwrap().1.len(), 65536);
    assert!(tally_of(&[5u32, 65541]).values().is_none());
    assert!(tally_of(&[u64::MAX, u64::MAX - 9]).values().is_some());
    assert_eq!(tally_of(&[i64::MAX, i64::MAX - 2]).values(), Some((i128::from(i64::MAX) - 2, &[1, 0, 1][..])));
    let mut joined = tally_of(&[5i32]);
    joined.merge(&tally_of(&[-65531]));
    assert_eq!((joined.values(), joined.prefixes().0), (None, 16));
    joined.merge(&tally_of(&[6i32]));
    assert_eq!(joined, tally_of(&[6i32, 5, -65531]));
}

#[test]
fn long_runs_of_one_value_are_counted_in_full() {
    let mut table = table::Table::<256, 4>::new();
    (0..3).for_each(|_| table.count(&[7u8; 1001], usize::from));
    assert_eq!(table.into_totals()[7], 3003);
}

/// 600 numbers in 0..65536, the same as in the Python below.
fn numbers() -> Vec<u64> {
    let mut x = 1u64;
    std::iter::repeat_with(|| {
        x = (x * 1_103_515_245 + 12_345) % (1 << 31);
        x >> 15
    })
    .take(600)
    .collect()
}

fn cubed() -> Vec<f64> {
    numbers().iter().map(|r| (*r as f64 - 30000.0).powi(3) / 1e6).collect()
}

// The expected values below come from numpy 2.4.6 and scikit-image 0.26.0:
//
//   x, r = 1, []
//   for _ in range(600): x = (x * 1103515245 + 12345) % 2**31; r.append(x >> 15)
//   r = np.array(r)
//   u8 = (r % 97 + (r // 97 % 2) * 120).astype(np.uint8); i16 = (r - 32768).astype(np.int16)
//   f32 = r.astype(np.float32) / np.float32(7) - np.float32(3000); f64 = (r - 30000.0)**3 / 1e6
//   np.percentile(a, [0, 1, 5, 25, 33.3, 50, 75, 95, 99, 100])        with i16 as int64 and f32 as float64
//   threshold_otsu(u8), threshold_otsu(i16), threshold_otsu(f64); np.histogram(f64, 10); f64.mean(), f64.std()

fn u8s() -> Vec<u8> {
    numbers().iter().map(|r| (r % 97 + r / 97 % 2 * 120) as u8).collect()
}

fn i16s() -> Vec<i16> {
    numbers().iter().map(|r| (*r as i64 - 32768) as i16).collect()
}

#[test]
fn percentiles_are_numpys() {
    fn check<T: AnyElement>(values: &[T], expected: [f64; 10]) {
        let percents = [0.0, 1.0, 5.0, 25.0, 33.3, 50.0, 75.0, 95.0, 99.0, 100.0];
        let mut search = PercentileSearch::new(&tally_of(values), &percents).unwrap();
        while let Some(mut pass) = search.wanted() {
            let volume = line(values);
            pass.add(&volume, volume.region());
            search = search.refined(&pass).unwrap();
        }
        assert_eq!(search.values().unwrap(), expected);
    }
    let f32s: Vec<f32> = numbers().iter().map(|r| *r as f32 / 7.0 - 3000.0).collect();
    check(&u8s(), [0.0, 1.0, 8.950000000000003, 44.0, 59.466999999999985, 93.0, 163.25, 205.0, 213.0, 216.0]);
    check(
        &i16s(),
        [
            -32413.0,
            -31550.99,
            -29390.55,
            -16711.25,
            -10065.447,
            -82.5,
            16335.25,
            29471.19999999999,
            31683.699999999997,
            32273.0,
        ],
    );
    check(
        &f32s,
        [
            -2949.28564453125,
            -2826.1414624023437,
            -2517.507177734375,
            -706.1786499023438,
            243.22185253906238,
            1669.35693359375,
            4014.7498779296875,
            5891.314160156248,
            6207.3854394531245,
            6291.5712890625,
        ],
    );
    check(
        &cubed(),
        [
            -26052797.511125,
            -23845604.60042559,
            -18869034.47192185,
            -2710768.34796825,
            -388627.96005945717,
            19389.7907045,
            6971499.05432625,
            33508603.018184364,
            40891428.735029995,
            43025851.573921,
        ],
    );
}

#[test]
fn otsu_is_scikit_images() {
    let otsu = |tally: &Tally| tally.values().and_then(|(start, counts)| otsu_values(start, counts));
    assert_eq!(otsu(&tally_of(&u8s())), Some(96.0));
    assert_eq!(otsu(&tally_of(&i16s())), Some(-792.0));
    let volume = line(&cubed());
    let (lo, hi) = tally_of(&cubed()).range().map(|(lo, hi)| (lo.to_f64(), hi.to_f64())).unwrap();
    let [coarse, fine] = [256, 65536].map(|bins| {
        let mut bins = EvenBins::new(lo, hi, bins).unwrap();
        bins.add(&volume, volume.region());
        bins
    });
    assert_eq!(coarse.otsu(), Some(11319830.99777684));
    assert_eq!(fine.otsu(), coarse.otsu());
    assert_eq!(otsu_even(lo, hi, coarse.counts()), coarse.otsu());
}

#[test]
fn otsu_of_one_value_is_that_value_and_of_none_is_none() {
    assert_eq!(otsu_values(-5, &[9]), Some(-5.0));
    assert_eq!(otsu_values(3, &[]), None);
    assert_eq!(otsu_even(0.1, 0.1, &[0, 7, 0]), Some(0.1));
    assert_eq!(otsu_even(0.0, 1.0, &[0; 256]), None);
}

#[test]
fn even_bins_are_numpys() {
    let counts = |values: &[f64], lo, hi, bins| {
        let (volume, mut bins) = (line(values), EvenBins::new(lo, hi, bins).unwrap());
        bins.add(&volume, volume.region());
        bins.counts().to_vec()
    };
    assert_eq!(counts(&cubed(), -26052797.511125, 43025851.573921, 10), [29, 25, 59, 277, 75, 37, 40, 20, 19, 19]);
    // np.histogram([0, .1, .2, .3, .4, .5, .6, .7, .8, .9, 1.0], 10), where tenths meet rounded edges.
    let tenths = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
    assert_eq!(counts(&tenths, 0.0, 1.0, 10), [1, 1, 2, 0, 1, 2, 1, 0, 1, 2]);
    assert_eq!(counts(&[3.0, 3.0], 3.0, 3.0, 4), [0, 0, 2, 0]);
    assert_eq!(EvenBins::new(1.0, 0.0, 4), None);
    assert_eq!(EvenBins::new(0.0, f64::INFINITY, 4), None);
    assert_eq!(EvenBins::new(0.0, 1.0, 0), None);
}

#[test]
fn a_report_of_values_is_exact() {
    let report = HistogramReport::from_tally("input", &tally_of(&[3u8, 5, 5, 3, 6]));
    assert_eq!(
        serde_json::to_string(&report).unwrap(),
        concat!(
            r#"{"of":"input","dtype":"uint8","voxels":5,"finite":5,"nan":0,"posinf":0,"neginf":0,"min":3,"max":6,"#,
            r#""mean":4.4,"std":1.2,"sum":22.0,"percentiles":{"1":3.0,"5":3.0,"25":3.0,"50":5.0,"75":5.0,"95":5.8,"99":5.96},"#,
            r#""counts":[2,0,2,1],"bin_start":3,"bin_width":1,"exact":true,"otsu":3.0}"#
        )
    );
    let wide = HistogramReport::from_tally("input", &tally_of(&[u64::MAX]));
    assert_eq!(serde_json::to_value(&wide).unwrap()["max"], u64::MAX);
}

#[test]
fn a_report_without_a_finite_voxel_is_null() {
    let report =
        HistogramReport::from_tally("smooth", &tally_of(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]));
    assert_eq!(
        serde_json::to_string(&report).unwrap(),
        concat!(
            r#"{"of":"smooth","dtype":"float32","voxels":4,"finite":0,"nan":2,"posinf":1,"neginf":1,"min":null,"max":null,"#,
            r#""mean":null,"std":null,"sum":null,"#,
            r#""percentiles":{"1":null,"5":null,"25":null,"50":null,"75":null,"95":null,"99":null},"#,
            r#""counts":[],"bin_start":null,"bin_width":null,"exact":true,"otsu":null}"#
        )
    );
}

#[test]
fn a_report_of_keys_has_edges_and_a_bound() {
    fn check<T: AnyElement>(values: &[T]) {
        let report = HistogramReport::from_tally("smooth", &tally_of(values));
        let Bins::Edges { counts, edges } = &report.bins else { panic!("edges: {report:?}") };
        assert_eq!(counts.len() + 1, edges.len());
        assert!(edges.windows(2).all(|pair| pair[0] < pair[1]) && edges.iter().all(|edge| edge.is_finite()));
        for (i, count) in counts.iter().enumerate() {
            let last = i + 1 == counts.len();
            let within = |v: f64| edges[i] <= v && (v < edges[i + 1] || last && v == edges[i + 1]);
            let expected = values.iter().filter(|v| v.is_finite() && within(v.to_f64())).count();
            assert_eq!(*count, expected as u64, "{} to {}", edges[i], edges[i + 1]);
        }
        assert!(!report.exact && report.bound.is_some_and(|bound| bound > 0.0) && report.otsu.is_none());
    }
    check(&[1.0f32, 1.001, 1.01, -2.0, 1e-42, f32::NAN]);
    check(&[f32::MAX, 3e38, 2.9e38]);
    check(&[f64::MAX, 1.7e308, 1.6e308, 1.75e308]);
    check(&[f64::MIN, -1.7e308]);
    check(&[70_000u32, 3, 130_000, 131_071, u32::MAX]);
    check(&[-70_000i32, 3, 130_000]);
    check(&[i64::MIN, i64::MIN + (1 << 50)]);
}

#[test]
fn a_report_of_even_bins_needs_a_finished_search() {
    let (volume, tally) = (line(&cubed()), tally_of(&cubed()));
    let (lo, hi) = tally.range().map(|(lo, hi)| (lo.to_f64(), hi.to_f64())).unwrap();
    let mut bins = EvenBins::new(lo, hi, 65536).unwrap();
    bins.add(&volume, volume.region());
    let mut search = PercentileSearch::new(&tally, &PERCENTS.map(f64::from)).unwrap();
    assert_eq!(HistogramReport::from_even_bins("input", &tally, &bins, &search), None);
    while let Some(mut pass) = search.wanted() {
        pass.add(&volume, volume.region());
        let carried = serde_json::to_string(&search).unwrap();
        search = serde_json::from_str::<PercentileSearch>(&carried).unwrap().refined(&pass).unwrap();
    }
    let report = HistogramReport::from_even_bins("input", &tally, &bins, &search).unwrap();
    // numpy sums pairwise and rounds on the way; a few units in the last place are its own.
    assert!((report.mean.unwrap() / 2851210.3901163163 - 1.0).abs() < 1e-14);
    assert!((report.std.unwrap() / 13344980.155576175 - 1.0).abs() < 1e-14);
    assert_eq!(report.percentiles.unwrap()[3], 19389.7907045);
    assert_eq!((report.exact, report.otsu), (true, Some(11319830.99777684)));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["counts"].as_array().unwrap().len(), 65536);
    assert_eq!(json["bin_start"], -26052797.511125);
    assert_eq!(json["bin_width"], (hi - lo) / 65536.0);
}
