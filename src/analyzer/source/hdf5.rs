//! Recordings in HDF5: PRODML 2.0 and 2.1, Silixa iDAS (DAS-RCN), ASN OptoDAS.

use std::ops::Range;

use hdf5_reader::group::Group;
use hdf5_reader::{Attribute, Dataset, Datatype, Hdf5File, SliceInfo, SliceInfoElem};
use k8s_openapi::jiff::Timestamp;

use super::SourceError;

/// An open recording.
pub struct Recording {
    /// The file.
    pub path: String,
    /// Samples per second of each channel, Hz.
    pub rate_hz: f64,
    /// Distance between neighbouring channels, m, if the file tells.
    pub dx_m: Option<f64>,
    /// Time of the first sample, µs since the Unix epoch, if the file tells.
    pub start_us: Option<i64>,
    /// Samples of each channel.
    pub samples: u64,
    /// Channels.
    pub channels: usize,
    /// Sample type as stored, such as `int16`.
    pub dtype: String,
    /// What the file says of itself.
    pub text: String,
    data: Dataset,
    /// What each stored number is multiplied by.
    scale: f32,
    /// Whether time is the second dimension.
    channels_first: bool,
}

/// What the formats say in their different ways.
struct Layout {
    data: Dataset,
    start_us: Option<i64>,
    rate_hz: Option<f64>,
    dx_m: Option<f64>,
    /// Names of the dimensions, as stored.
    dimensions: Vec<String>,
    scale: f64,
    text: String,
}

impl Recording {
    /// Opens a file and finds out what is in it, without reading samples.
    ///
    /// # Errors
    /// When the file cannot be read, or is of no known format.
    pub fn open(path: &str) -> Result<Self, SourceError> {
        let unknown = |why: &str| SourceError::UnknownFormat { path: path.to_owned(), why: why.to_owned() };
        let file = Hdf5File::open(path).map_err(|error| unreadable("opening recording", path, &error))?;
        let Layout { data, start_us, rate_hz, dx_m, dimensions, scale, text } = layout(&file)
            .map_err(|error| unreadable("reading the metadata of recording", path, &error))?
            .ok_or_else(|| {
                unknown(
                    "it has none of /Acquisition/Raw[0]/RawData, /DasRawData/RawData and /data with /header",
                )
            })?;
        let rate_hz = rate_hz
            .filter(|rate| rate.is_finite() && *rate > 0.0)
            .ok_or_else(|| unknown("it does not tell its sample rate"))?;
        let &[rows, columns] = data.shape() else {
            return Err(unknown("its samples do not have the two dimensions time and channel"));
        };
        let dtype = dtype_name(data.dtype())
            .ok_or_else(|| unknown("its samples are neither whole numbers nor floating point"))?;
        // Where the file does not say, time comes first, as in all the formats' own writers.
        let channels_first = dimensions.first().is_some_and(|name| !name.to_lowercase().contains("time"));
        let (samples, channels) = if channels_first { (columns, rows) } else { (rows, columns) };
        Ok(Self {
            path: path.to_owned(),
            rate_hz,
            dx_m,
            start_us,
            samples,
            channels: usize::try_from(channels).map_err(|_| unknown("it has too many channels"))?,
            dtype,
            text,
            data,
            scale: scale as f32,
            channels_first,
        })
    }

    /// The samples of a stretch of time and of channels (counted from 0), time by time.
    ///
    /// # Errors
    /// When the file is damaged or gone.
    pub fn read(&self, samples: Range<u64>, channels: Range<usize>) -> Result<Vec<f32>, SourceError> {
        let (width, length) = (channels.len(), (samples.end - samples.start) as usize);
        let time = SliceInfoElem::Slice { start: samples.start, end: samples.end, step: 1 };
        let place = SliceInfoElem::Slice { start: channels.start as u64, end: channels.end as u64, step: 1 };
        let selections = if self.channels_first { vec![place, time] } else { vec![time, place] };
        let mut values = numbers(&self.data, &SliceInfo { selections })
            .map_err(|error| unreadable("reading samples of recording", &self.path, &error))?;
        if values.len() != width * length {
            return Err(SourceError::Unreadable {
                doing: "reading samples of recording",
                path: self.path.clone(),
                why: format!("{} numbers came where {} were asked for", values.len(), width * length),
            });
        }
        if self.scale != 1.0 {
            values.iter_mut().for_each(|value| *value *= self.scale);
        }
        Ok(if self.channels_first { transposed(&values, width, length) } else { values })
    }
}

fn transposed(values: &[f32], width: usize, length: usize) -> Vec<f32> {
    (0..length).flat_map(|sample| (0..width).map(move |channel| values[channel * length + sample])).collect()
}

fn unreadable(doing: &'static str, path: &str, error: &hdf5_reader::error::Error) -> SourceError {
    SourceError::Unreadable { doing, path: path.to_owned(), why: error.to_string() }
}

fn layout(file: &Hdf5File) -> Result<Option<Layout>, hdf5_reader::error::Error> {
    let root = file.root_group()?;
    let (groups, datasets) = root.member_names()?;
    let has_group = |name: &str| groups.iter().any(|group| group == name);
    if has_group("Acquisition") {
        return prodml(&root.group("Acquisition")?);
    }
    if has_group("DasRawData") {
        return das_rcn(file, &root.group("DasRawData")?).map(Some);
    }
    if has_group("header") && datasets.iter().any(|dataset| dataset == "data") {
        return opto_das(&root).map(Some);
    }
    Ok(None)
}

fn prodml(acquisition: &Group) -> Result<Option<Layout>, hdf5_reader::error::Error> {
    let (groups, _) = acquisition.member_names()?;
    // Files with one group of samples only may leave its number out.
    let Some(name) = ["Raw[0]", "Raw"].into_iter().find(|name| groups.iter().any(|group| group == name))
    else {
        return Ok(None);
    };
    let raw = acquisition.group(name)?;
    let data = raw.dataset("RawData")?;
    let dimensions = ["Dimensions", "Dimension"]
        .iter()
        .find_map(|name| data.attribute(name).ok()?.read_strings().ok())
        .unwrap_or_default();
    let rate_hz = number(raw.attribute("OutputDataRate"))
        .or_else(|| number(acquisition.attribute("OutputDataRate")))
        .or_else(|| number(acquisition.attribute("PulseRate")));
    let maker = word(acquisition.attribute("ServiceCompanyName"));
    let version = word(acquisition.attribute("schemaVersion"));
    let start = word(data.attribute("PartStartTime"))
        .or_else(|| word(raw.dataset("RawDataTime").ok()?.attribute("PartStartTime")))
        .or_else(|| word(acquisition.attribute("MeasurementStartTime")));
    Ok(Some(Layout {
        start_us: start.and_then(|text| micros(&text)),
        rate_hz,
        dx_m: number(acquisition.attribute("SpatialSamplingInterval")),
        dimensions,
        scale: 1.0,
        text: described(&[maker], &format!("PRODML {}", version.unwrap_or_default())),
        data,
    }))
}

fn das_rcn(file: &Hdf5File, raw: &Group) -> Result<Layout, hdf5_reader::error::Error> {
    let data = raw.dataset("RawData")?;
    let interrogator = file.group("DasMetadata/Interrogator")?;
    let acquisition = interrogator.group("Acquisition")?;
    let dimensions = ["DasDimensions", "Dimensions"]
        .iter()
        .find_map(|name| data.attribute(name).ok()?.read_strings().ok())
        .unwrap_or_default();
    let maker = word(interrogator.attribute("InterrogatorManufacturer"));
    let model = word(interrogator.attribute("InterrogatorModel"));
    let standard = word(file.group("DasMetadata")?.attribute("MetadataStandard"));
    // The time of each sample, ns. The acquisition's own start may be that of an earlier file.
    let first_ns = raw.dataset("DasTimeArray").ok().and_then(|times| first_integer(&times));
    let start_us = first_ns
        .map(|ns| ns / 1000)
        .or_else(|| word(acquisition.attribute("AcquisitionStartTime")).and_then(|text| micros(&text)));
    Ok(Layout {
        start_us,
        rate_hz: number(acquisition.attribute("AcquisitionSampleRate"))
            .or_else(|| number(acquisition.attribute("PulseRate"))),
        dx_m: number(acquisition.attribute("SpatialSamplingInterval")),
        dimensions,
        scale: 1.0,
        text: described(&[maker, model], standard.as_deref().unwrap_or("DAS-RCN")),
        data,
    })
}

fn opto_das(root: &Group) -> Result<Layout, hdf5_reader::error::Error> {
    let header = root.group("header")?;
    let scalar = |name: &str| header.dataset(name).ok().and_then(|dataset| first_number(&dataset));
    let dimensions =
        header.dataset("dimensionNames").and_then(|names| names.read_strings()).unwrap_or_default();
    let version = root.dataset("fileVersion").ok().and_then(|version| first_number(&version));
    Ok(Layout {
        data: root.dataset("data")?,
        start_us: scalar("time").filter(|time| time.is_finite()).map(|time| (time * 1e6).round() as i64),
        rate_hz: scalar("dt").map(|dt| 1.0 / dt),
        dx_m: scalar("dx"),
        dimensions,
        scale: scalar("dataScale").filter(|scale| scale.is_finite() && *scale != 0.0).unwrap_or(1.0),
        text: described(
            &[Some("ASN".to_owned())],
            &version.map_or("OptoDAS".to_owned(), |version| format!("OptoDAS v{version}")),
        ),
    })
}

/// `maker model, standard`, of what is known.
fn described(names: &[Option<String>], standard: &str) -> String {
    let names: Vec<&str> = names.iter().flatten().map(String::as_str).collect();
    if names.is_empty() {
        return standard.trim().to_owned();
    }
    format!("{}, {}", names.join(" "), standard.trim())
}

/// An attribute's text, unless it is empty or says that it says nothing.
fn word(attribute: Result<Attribute, hdf5_reader::error::Error>) -> Option<String> {
    let attribute = attribute.ok()?;
    let text = attribute.read_string().ok().or_else(|| attribute.read_strings().ok()?.into_iter().next())?;
    let text = text.trim().trim_end_matches('\0').to_owned();
    (!text.is_empty() && text != "NaN").then_some(text)
}

/// An attribute's number, whether stored as number, as list of one, or as text.
fn number(attribute: Result<Attribute, hdf5_reader::error::Error>) -> Option<f64> {
    let attribute = attribute.ok()?;
    let value = match attribute.read_as_f64() {
        Ok(value) => value,
        Err(_) => attribute.read_string().ok()?.trim().parse().ok()?,
    };
    value.is_finite().then_some(value)
}

/// A time such as `2019-05-31T08:38:50.626928+00:00`, µs since the Unix epoch; UTC where it does not say.
fn micros(text: &str) -> Option<i64> {
    let text = text.trim();
    let time: Timestamp = text.parse().or_else(|_| format!("{text}Z").parse()).ok()?;
    Some(time.as_microsecond())
}

fn first_integer(dataset: &Dataset) -> Option<i64> {
    let first = SliceInfo { selections: vec![SliceInfoElem::Slice { start: 0, end: 1, step: 1 }] };
    match dataset.dtype() {
        Datatype::FixedPoint { size: 8, signed: true, .. } => {
            dataset.read_slice::<i64>(&first).ok()?.first().copied()
        }
        Datatype::FixedPoint { size: 8, signed: false, .. } => {
            i64::try_from(*dataset.read_slice::<u64>(&first).ok()?.first()?).ok()
        }
        _ => None,
    }
}

fn first_number(dataset: &Dataset) -> Option<f64> {
    let shape = SliceInfo::all(dataset.ndim());
    match dataset.dtype() {
        // Whole numbers here are versions and the like, far below the 2^24 that f32 holds exactly.
        Datatype::FixedPoint { .. } => numbers(dataset, &shape).ok()?.first().map(|value| f64::from(*value)),
        Datatype::FloatingPoint { size: 4, .. } => {
            dataset.read_array::<f32>().ok()?.first().map(|value| f64::from(*value))
        }
        _ => dataset.read_array::<f64>().ok()?.first().copied(),
    }
}

/// Reads a slice of any numeric type as f32.
fn numbers(dataset: &Dataset, slice: &SliceInfo) -> Result<Vec<f32>, hdf5_reader::error::Error> {
    macro_rules! read {
        ($type:ty) => {
            dataset.read_slice::<$type>(slice)?.into_iter().map(|value| value as f32).collect()
        };
    }
    Ok(match dataset.dtype() {
        Datatype::FixedPoint { size: 1, signed: true, .. } => read!(i8),
        Datatype::FixedPoint { size: 1, signed: false, .. } => read!(u8),
        Datatype::FixedPoint { size: 2, signed: true, .. } => read!(i16),
        Datatype::FixedPoint { size: 2, signed: false, .. } => read!(u16),
        Datatype::FixedPoint { size: 4, signed: true, .. } => read!(i32),
        Datatype::FixedPoint { size: 4, signed: false, .. } => read!(u32),
        Datatype::FixedPoint { signed: true, .. } => read!(i64),
        Datatype::FixedPoint { signed: false, .. } => read!(u64),
        Datatype::FloatingPoint { size: 8, .. } => read!(f64),
        _ => read!(f32),
    })
}

/// numpy's name of a sample type; None for what is no number.
fn dtype_name(datatype: &Datatype) -> Option<String> {
    match datatype {
        Datatype::FixedPoint { size: size @ (1 | 2 | 4 | 8), signed, .. } => {
            Some(format!("{}int{}", if *signed { "" } else { "u" }, u32::from(*size) * 8))
        }
        Datatype::FloatingPoint { size: size @ (4 | 8), .. } => {
            Some(format!("float{}", u32::from(*size) * 8))
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A real recording, which the repository does not carry: `FOCUS_TEST_DAS` names its directory.
    fn recording(name: &str) -> Option<String> {
        let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/das");
        let path = std::env::var_os("FOCUS_TEST_DAS").map_or(beside, PathBuf::from).join(name);
        if !path.is_file() {
            println!("skipped: {name} is not there; name its directory in FOCUS_TEST_DAS");
            return None;
        }
        Some(path.display().to_string())
    }

    #[test]
    fn real_recordings_are_read_whole() {
        // File, samples, channels, Hz, m, type, description, sum, sum of absolute values, start in µs.
        type Case = (&'static str, u64, usize, f64, f64, &'static str, &'static str, f64, f64, i64);
        #[rustfmt::skip]
        let cases: [Case; 3] = [
            ("gdr_1.h5", 10_000, 10, 1000.0, 1.021, "float32", "Silixa, DAS-RCN v1.10", -23_742.0, 40_104_502.0,
                1_457_458_830_195_000),
            ("decimated_optodas.hdf5", 5000, 51, 500.0, 1.0213, "float32", "ASN, OptoDAS v8",
                2.364_953_591_449_392_4e-5, 0.052_491_475_100_848_284, 1_698_416_617_020_000),
            ("iDAS005_hdf5_example.626.h5", 1000, 1152, 1000.0, 1.020_95, "int16", "Silixa, PRODML 2.1",
                14_192_701.0, 279_344_293.0, 1_559_291_930_626_928),
        ];
        for (name, samples, channels, rate, dx, dtype, text, sum, absolute, start) in cases {
            let Some(path) = recording(name) else { continue };
            let found = Recording::open(&path).unwrap();
            assert_eq!(
                (found.samples, found.channels, found.dtype.as_str()),
                (samples, channels, dtype),
                "{name}"
            );
            assert!((found.rate_hz - rate).abs() < 1e-9 && (found.dx_m.unwrap() - dx).abs() < 1e-4, "{name}");
            assert_eq!((found.text.as_str(), found.start_us), (text, Some(start)), "{name}");
            let all = found.read(0..samples, 0..channels).unwrap();
            let total: f64 = all.iter().map(|x| f64::from(*x)).sum();
            let total_absolute: f64 = all.iter().map(|x| f64::from(x.abs())).sum();
            assert!((total - sum).abs() <= 1e-9 * absolute, "{name}: {total}");
            assert!((total_absolute - absolute).abs() <= 1e-9 * absolute, "{name}: {total_absolute}");
            let part = found.read(100..103, 2..4).unwrap();
            let expected: Vec<f32> =
                (100..103).flat_map(|s| [all[s * channels + 2], all[s * channels + 3]]).collect();
            assert_eq!(part, expected, "{name}");
        }
    }

    #[test]
    fn channels_first_is_turned_around() {
        // Two channels of three samples.
        assert_eq!(transposed(&[1.0, 2.0, 3.0, 10.0, 20.0, 30.0], 2, 3), [1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
    }

    #[test]
    fn a_time_without_offset_is_utc() {
        let at = Some(1_559_291_930_626_928);
        for text in [
            "2019-05-31T08:38:50.626928+00:00",
            "2019-05-31T08:38:50.626928",
            "2019-05-31T10:38:50.626928+02:00",
        ] {
            assert_eq!(micros(text), at, "{text}");
        }
        assert_eq!(micros("yesterday"), None);
    }

    #[test]
    fn a_description_leaves_out_what_is_unknown() {
        assert_eq!(described(&[None, None], "DAS-RCN"), "DAS-RCN");
        assert_eq!(described(&[Some("Silixa".into()), None], "PRODML 2.1 "), "Silixa, PRODML 2.1");
    }
}
