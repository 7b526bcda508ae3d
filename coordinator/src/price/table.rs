//! The price table: list prices in USD, without tiers, free allowances or discounts.
//!
//! Read from the public price lists of AWS Lambda, Amazon S3 (Standard) and Amazon CloudWatch as they stood in
//! September 2026: <https://aws.amazon.com/lambda/pricing/>, <https://aws.amazon.com/s3/pricing/>,
//! <https://aws.amazon.com/cloudwatch/pricing/>. Those of Lambda are the same in all of these regions and have been for
//! years; those of requests and logs differ. A price that has changed since is put right with `--price KEY=USD`.

use clap::ValueEnum;
use pipeline::store::Requests;
use pipeline::{Error, Result};
use serde::Serialize;

/// Whose prices count where no region is named that the table has.
pub(crate) const REGION: &str = "us-east-1";

/// When the table was made.
const DATED: &str = "2026-09";

/// What a function runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
pub enum Arch {
    /// x86-64
    #[default]
    #[value(name = "x86_64")]
    X86,
    /// arm64
    #[value(name = "arm64")]
    Arm,
}

/// Prices of one region, in USD.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prices {
    /// The region.
    pub region: String,
    /// When they were looked up.
    pub dated: String,
    /// A GiB of memory of a function for a second, as Lambda counts.
    pub gb_second: f64,
    /// An invocation.
    pub invocation: f64,
    /// A write of an object or a part of one; a listing costs the same. Deleting costs nothing.
    pub put: f64,
    /// A read.
    pub get: f64,
    /// A gigabyte of logs taken in.
    pub logs_gb: f64,
    /// Which of them were given by hand.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overridden: Vec<String>,
}

/// First tier of Lambda's duration: up to 6 billion GB-seconds a month on x86, 7.5 on arm.
const GB_SECOND_X86: f64 = 0.000_016_666_7;
const GB_SECOND_ARM: f64 = 0.000_013_333_4;
const INVOCATION: f64 = 0.20e-6;

/// Region; a thousand PUT or LIST requests, a thousand GET requests of S3 Standard; a GB of logs.
const REGIONS: [(&str, f64, f64, f64); 8] = [
    ("us-east-1", 0.005, 0.0004, 0.50),
    ("us-east-2", 0.005, 0.0004, 0.50),
    ("us-west-2", 0.005, 0.0004, 0.50),
    ("eu-west-1", 0.005, 0.0004, 0.57),
    ("eu-central-1", 0.0054, 0.00043, 0.63),
    ("ap-northeast-1", 0.0047, 0.00037, 0.76),
    ("ap-southeast-1", 0.005, 0.0004, 0.70),
    ("ap-southeast-2", 0.0055, 0.00044, 0.67),
];

/// What can be put right by hand.
const KEYS: [&str; 5] = ["gb-second", "invocation", "s3-put", "s3-get", "logs-gb"];

impl Default for Prices {
    fn default() -> Self {
        Self::row(REGIONS[0], Arch::default())
    }
}

impl Prices {
    fn row((region, put, get, logs_gb): (&str, f64, f64, f64), arch: Arch) -> Self {
        Self {
            region: region.to_owned(),
            dated: DATED.to_owned(),
            gb_second: match arch {
                Arch::X86 => GB_SECOND_X86,
                Arch::Arm => GB_SECOND_ARM,
            },
            invocation: INVOCATION,
            put: put / 1000.0,
            get: get / 1000.0,
            logs_gb,
            overridden: Vec::new(),
        }
    }

    /// Prices of a region.
    ///
    /// # Errors
    /// Invalid when the table has no such region.
    pub fn of(region: &str, arch: Arch) -> Result<Self> {
        let row = REGIONS.iter().find(|row| row.0 == region).ok_or_else(|| {
            let known: Vec<&str> = REGIONS.iter().map(|row| row.0).collect();
            Error::invalid(format!("the price table has no region {region:?}")).hint(format!(
                "name one of {} with --price-region, and put prices right with --price",
                known.join(", ")
            ))
        })?;
        Ok(Self::row(*row, arch))
    }

    /// Puts one price right, as in `s3-put=0.000005`.
    ///
    /// # Errors
    /// Invalid when it names no price, or no amount.
    pub fn set(&mut self, text: &str) -> Result<()> {
        let wrong = || {
            Error::invalid(format!("--price takes KEY=USD for one unit, but got {text:?}"))
                .hint(format!("the keys are {}; as in s3-put=0.000005", KEYS.join(", ")))
        };
        let (key, value) = text.split_once('=').ok_or_else(wrong)?;
        let value: f64 = value.trim().trim_start_matches('$').parse().map_err(|_| wrong())?;
        if !value.is_finite() || value < 0.0 {
            return Err(wrong());
        }
        let place = self.place(key.trim()).ok_or_else(wrong)?;
        *place = value;
        self.overridden.push(key.trim().to_owned());
        Ok(())
    }

    /// Those of another region, where the table has it, but for what was put right by hand.
    pub(super) fn elsewhere(&self, region: &str, arch: Arch) -> Self {
        let Ok(mut prices) = Self::of(region, arch).or_else(|_| Self::of(&self.region, arch)) else {
            return self.clone();
        };
        for key in &self.overridden {
            if let (Some(to), Some(from)) = (prices.place(key), self.clone().place(key)) {
                *to = *from;
            }
        }
        Self { overridden: self.overridden.clone(), ..prices }
    }

    fn place(&mut self, key: &str) -> Option<&mut f64> {
        Some(match key {
            "gb-second" => &mut self.gb_second,
            "invocation" => &mut self.invocation,
            "s3-put" => &mut self.put,
            "s3-get" => &mut self.get,
            "logs-gb" => &mut self.logs_gb,
            _ => return None,
        })
    }

    /// What requests come to.
    pub fn requests(&self, made: &Requests) -> f64 {
        made.gets as f64 * self.get + (made.puts + made.lists) as f64 * self.put
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn prices_of_regions_and_by_hand() {
        let mut prices = Prices::of("eu-central-1", Arch::Arm).unwrap();
        assert_eq!((prices.gb_second, prices.put), (GB_SECOND_ARM, 0.0054 / 1000.0));
        prices.set("s3-put=0.00001").unwrap();
        assert_eq!((prices.put, &prices.overridden[..]), (0.00001, &["s3-put".to_owned()][..]));
        for wrong in ["s3-put", "s3-put=", "s3-put=-1", "s3-put=inf", "gold=3"] {
            assert!(prices.set(wrong).unwrap_err().hint.unwrap().contains("s3-put"), "{wrong}");
        }
        assert!(Prices::of("mars-1", Arch::X86).unwrap_err().hint.unwrap().contains("us-east-1"));
        let made = Requests { gets: 1000, puts: 900, lists: 100, deletes: 7, ..Requests::default() };
        assert!((Prices::default().requests(&made) - 0.0054).abs() < 1e-12);
    }
}
