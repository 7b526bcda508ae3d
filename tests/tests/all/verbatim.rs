use pipeline::job::Job;
use voxel::{Dtype, Region};

use crate::support::image::{Look, Recipe, sheet, volume};
use crate::support::lab::{Cut, Lab};

/// The chunks of every input here, as `Lab` packs them.
const CHUNK: [usize; 3] = [7, 9, 11];

fn copy(lab: &Lab, steps: &str, shards: Option<[usize; 3]>) -> Job {
    let mut job = lab.job(steps, CHUNK);
    job.write.codec = Some("zstd:1".to_owned());
    match shards {
        Some(counts) => lab.sharded(job, counts),
        None => job,
    }
}

/// Chunks that are taken over give the files that packing their voxels gives.
#[test]
fn as_if_packed_anew() {
    for (extent, dtype, look, low) in [
        (volume([20, 30, 25]), Dtype::U8, Look::Noise, 0),
        (volume([21, 27, 33]), Dtype::I16, Look::Blobs, -32768),
        (volume([15, 19, 40]), Dtype::U32, Look::Zeros, 0),
        (sheet([40, 50]), Dtype::U8, Look::Dust, 0),
    ] {
        let image = Recipe { extent, dtype, look, gaps: false, seed: 5 }.image();
        for shard in [None, Some([14, 9, 22])] {
            let lab = Lab::with_chunks(&image, CHUNK, shard);
            // A chunk that is not there is 0.
            let gone = if extent.planar { "c/0/1" } else { "c/1/0/1" };
            std::fs::remove_file(lab.input().join(gone)).unwrap();
            let (same, clip) = (format!("cast dtype={dtype}"), format!("clip low={low} high=30000"));
            let clip = if dtype == Dtype::U8 { "clip low=0 high=255".to_owned() } else { clip };
            for shards in [None, Some([1, 2, 2]), Some([2, 1, 3])] {
                let (taken, packed) = (copy(&lab, &same, shards), copy(&lab, &clip, shards));
                assert!(lab.plan(&taken, &Cut::whole()).images[0].verbatim, "{dtype} {shards:?}");
                assert!(!lab.plan(&packed, &Cut::whole()).images[0].verbatim, "{dtype} {shards:?}");
                let expected = lab.run(&packed, &Cut::whole());
                for cut in [Cut::whole(), Cut::blocks([14, 18, 33])] {
                    assert_eq!(lab.run(&taken, &cut).difference(&expected), None, "{dtype} {shard:?} {shards:?}");
                }
            }
        }
    }
}

#[test]
fn a_crop_along_chunks_takes_them_over_and_no_other_does() {
    let image = Recipe { extent: volume([20, 30, 25]), dtype: Dtype::U8, look: Look::Noise, gaps: false, seed: 9 };
    let lab = Lab::with_chunks(&image.image(), CHUNK, None);
    for (start, shape, whole) in [
        ([7, 0, 11], [7, 27, 11], true),
        ([7, 0, 11], [7, 27, 12], false),
        ([7, 1, 11], [7, 26, 11], false),
        ([0, 0, 0], [20, 30, 22], false),
    ] {
        let of = |steps| lab.cropping(copy(&lab, steps, None), Region::new(start, shape));
        let (taken, packed) = (of("cast dtype=uint8"), of("clip low=0 high=255"));
        assert_eq!(lab.plan(&taken, &Cut::whole()).images[0].verbatim, whole, "{start:?} {shape:?}");
        assert_eq!(lab.run(&taken, &Cut::whole()).difference(&lab.run(&packed, &Cut::whole())), None);
    }
    let others: [fn(&mut Job); 4] = [
        |job| job.write.codec = Some("zstd:2".to_owned()),
        |job| job.write.codec = None,
        |job| job.write.chunks = pipeline::step::PerAxis::All(7),
        |job| job.steps = pipeline::job::steps_from_line("cast dtype=uint16").unwrap(),
    ];
    for (i, change) in others.into_iter().enumerate() {
        let mut job = copy(&lab, "cast dtype=uint8", None);
        change(&mut job);
        // What bytes are packed with by default is what they are packed with here.
        assert_eq!(lab.plan(&job, &Cut::whole()).images[0].verbatim, i == 1, "{i}");
    }
}

/// What can't be unpacked is not handed on.
#[test]
fn a_damaged_chunk_is_refused() {
    let image = Recipe { extent: volume([20, 30, 25]), dtype: Dtype::U8, look: Look::Noise, gaps: false, seed: 9 };
    let lab = Lab::with_chunks(&image.image(), CHUNK, None);
    let path = lab.input().join("c/1/1/0");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let refused = lab.attempt(&copy(&lab, "cast dtype=uint8", None), &Cut::whole(), &lab.new_output()).unwrap_err();
    assert!(refused.contains("chunk [1, 1, 0]"), "{refused}");
}
