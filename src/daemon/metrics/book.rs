//! The book of all metrics: each is entered with its name, its meaning and its labels, so that what is served and what is
//! documented are one list.

use std::fmt;

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, text},
    metrics::{MetricType, TypedMetric, counter::ConstCounter, gauge::ConstGauge},
    registry::{Metric, Registry, Unit},
};

/// What a metric is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Its name, without unit and suffix.
    name: &'static str,
    /// Its unit, where it has one.
    unit: Option<&'static str>,
    /// What tells its rows apart.
    labels: &'static [&'static str],
    /// What it counts or measures, one sentence.
    help: &'static str,
}

/// A metric without unit.
pub(super) const fn entry(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Entry {
    Entry { name, unit: None, labels, help }
}

impl Entry {
    /// The same in a unit.
    pub(super) const fn in_unit(self, unit: &'static str) -> Self {
        Self { unit: Some(unit), ..self }
    }

    /// The name that it is found by.
    fn whole_name(&self, kind: MetricType) -> String {
        let unit = self.unit.map(|unit| format!("_{unit}")).unwrap_or_default();
        let suffix = match kind {
            MetricType::Counter => "_total",
            MetricType::Info => "_info",
            MetricType::Gauge | MetricType::Histogram | MetricType::Unknown => "",
        };
        format!("{}{unit}{suffix}", self.name)
    }
}

/// A line of the documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// What follows is about this.
    Heading(&'static str),
    /// A metric.
    Metric {
        /// The name that it is found by.
        name: String,
        /// What it is.
        kind: String,
        /// What tells its rows apart.
        labels: &'static [&'static str],
        /// What it counts or measures.
        help: &'static str,
    },
}

/// The book, with the numbers of one moment.
#[derive(Default)]
pub(super) struct Book {
    registry: Registry,
    /// What stands in it, as documentation.
    contents: Vec<Line>,
}

impl Book {
    /// What follows is about this.
    pub(super) fn heading(&mut self, heading: &'static str) {
        self.contents.push(Line::Heading(heading));
    }

    /// Numbers that only grow.
    pub(super) fn counters(&mut self, entry: Entry, rows: impl IntoIterator<Item = Row<u64>>) {
        self.rows(entry, rows.into_iter().map(|row| row.map(ConstCounter::new)));
    }

    /// Numbers that go up and down.
    pub(super) fn gauges(&mut self, entry: Entry, rows: impl IntoIterator<Item = Row<f64>>) {
        self.rows(entry, rows.into_iter().map(|row| row.map(ConstGauge::new)));
    }

    /// What knows its own number, or numbers.
    pub(super) fn rows<M: Metric + TypedMetric>(
        &mut self,
        entry: Entry,
        rows: impl IntoIterator<Item = Row<M>>,
    ) {
        self.metric(entry, Rows(rows.into_iter().collect()));
    }

    /// What knows its own rows.
    pub(super) fn metric(&mut self, entry: Entry, metric: impl Metric) {
        let Entry { name, unit, labels, help } = entry;
        let kind = metric.metric_type();
        let (whole, kind) = (entry.whole_name(kind), kind.as_str().to_owned());
        self.contents.push(Line::Metric { name: whole, kind, labels, help });
        // The registry ends a help text with a full stop of its own.
        let help = help.trim_end_matches('.');
        match unit {
            Some(unit) => {
                self.registry.register_with_unit(name, help, Unit::Other(unit.to_owned()), metric);
            }
            None => self.registry.register(name, help, metric),
        }
    }

    /// What stands in it, as documentation.
    #[cfg(test)]
    pub(super) fn contents(&self) -> &[Line] {
        &self.contents
    }

    /// The book as OpenMetrics text.
    pub(super) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// What tells a row from others, and its number.
#[derive(Debug)]
pub(super) struct Row<M> {
    labels: Vec<(&'static str, String)>,
    value: M,
}

impl<M> Row<M> {
    /// The only one.
    pub(super) const fn only(value: M) -> Self {
        Self { labels: Vec::new(), value }
    }

    /// One of several.
    pub(super) fn of<const N: usize>(labels: [(&'static str, &str); N], value: M) -> Self {
        Self { labels: labels.map(|(name, value)| (name, value.to_owned())).to_vec(), value }
    }

    pub(super) fn map<T>(self, into: impl FnOnce(M) -> T) -> Row<T> {
        Row { labels: self.labels, value: into(self.value) }
    }
}

/// A metric with all its rows.
#[derive(Debug)]
struct Rows<M>(Vec<Row<M>>);

impl<M: EncodeMetric + TypedMetric> EncodeMetric for Rows<M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        if let [Row { labels, value }] = self.0.as_slice()
            && labels.is_empty()
        {
            return value.encode(encoder);
        }
        self.0.iter().try_for_each(|row| row.value.encode(encoder.encode_family(&row.labels)?))
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
