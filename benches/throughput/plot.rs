//! Cost of a call over the number of live sessions, as SVG.

use std::fmt::Write as _;

use super::{
    bed::{Measured, Transport},
    figures::{Figures, Row},
    report::number,
};

const IN_FLIGHT: usize = 256;
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// The store without sessions stands where a thousand would: a logarithm has no place for none.
const NONE: f64 = 1_000.0;
const MOST: f64 = 10_000_000.0;

struct Line {
    name: &'static str,
    colour: &'static str,
    /// Live sessions, and microseconds for each call.
    points: Vec<(u64, f64)>,
}

/// The plot: 256 in flight over the Unix socket.
pub fn draw(figures: &Figures) -> String {
    let line = |name, colour, turns: fn(&Row) -> &Vec<Measured>| {
        let rows = figures.rows.iter().filter(|r| (r.transport, r.in_flight) == (Transport::Unix, IN_FLIGHT));
        let points = rows.filter_map(|row| Some((row.size, 1e6 / Row::throughput(turns(row))?))).collect();
        Line { name, colour, points }
    };
    let lines = [
        line("StartAuthorization", "#b3261e", |row| &row.start),
        line("Redis SET, synced", "#8a6d00", |row| &row.set),
        line("GetSession", "#0b57d0", |row| &row.get),
        line("echo", "#5f6368", |row| &row.echo_start),
    ];
    let dearest = lines.iter().flat_map(|line| &line.points).map(|(_, cost)| *cost).fold(1.0, f64::max);
    // Ticks are whole tens, and there are at most eight.
    let step = 10.0 * (dearest / 80.0).ceil();
    let top = step * (dearest / step).ceil();
    let x = |sessions: u64| {
        let place = (sessions as f64).max(NONE).log10() - NONE.log10();
        LEFT + place / (MOST.log10() - NONE.log10()) * (WIDTH - LEFT - RIGHT)
    };
    let y = |cost: f64| HEIGHT - BOTTOM - cost / top * (HEIGHT - TOP - BOTTOM);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<title>Cost of a call over live sessions</title>\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         fill=\"#fff\"/>\n<text x=\"{LEFT}\" y=\"20\">microseconds for each call, {IN_FLIGHT} in flight</text>\n"
    );
    let (left, right) = (LEFT, WIDTH - RIGHT);
    for tick in 0..=(top / step) as u32 {
        let cost = f64::from(tick) * step;
        let (at, label_at) = (y(cost), y(cost) + 4.0);
        let _ = writeln!(svg, "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#ddd\"/>");
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{label_at:.1}\" text-anchor=\"end\">{cost}</text>",
            left - 8.0
        );
    }
    let sizes: Vec<u64> = lines
        .iter()
        .max_by_key(|line| line.points.len())
        .map_or(Vec::new(), |line| line.points.iter().map(|(sessions, _)| *sessions).collect());
    for sessions in sizes {
        let label = if sessions == 0 { "none".to_owned() } else { number(Some(sessions as f64)) };
        let (at, below) = (x(sessions), HEIGHT - BOTTOM + 18.0);
        let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{label}</text>");
    }
    let (middle, foot) = ((left + right) / 2.0, HEIGHT - 12.0);
    let _ = writeln!(svg, "<text x=\"{middle}\" y=\"{foot}\" text-anchor=\"middle\">live sessions</text>");
    for line in &lines {
        draw_line(&mut svg, line, &x, &y);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_line(svg: &mut String, line: &Line, x: &impl Fn(u64) -> f64, y: &impl Fn(f64) -> f64) {
    let Line { name, colour, points } = line;
    let Some((last, last_cost)) = points.last() else { return };
    let path: Vec<_> =
        points.iter().map(|(sessions, cost)| format!("{:.1} {:.1}", x(*sessions), y(*cost))).collect();
    let _ = writeln!(
        svg,
        "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
        path.join("L")
    );
    for (sessions, cost) in points {
        let _ = writeln!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
            x(*sessions),
            y(*cost)
        );
    }
    let (at, beside) = (x(*last) + 10.0, y(*last_cost) + 4.0);
    let _ = writeln!(
        svg,
        "<text x=\"{at:.1}\" y=\"{beside:.1}\" fill=\"{colour}\">{name}: {last_cost:.1}</text>"
    );
}
