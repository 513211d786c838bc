//! The figures as text: tables in Markdown, for a terminal and for `docs/benchmarks.md`.

use std::{fmt::Write as _, fs, path::Path};

use super::{
    OLD, SPAN,
    bed::{Measured, Transport, VALUE},
    figures::{Figures, Row},
    machine::median,
    prefill::CACHE,
};

const BEGIN: &str = "<!-- figures: written by scripts/benchmark.sh -->\n";
const END: &str = "<!-- end of figures -->\n";
const MIB: f64 = 1024.0 * 1024.0;

/// Puts the text between the page's marks.
pub fn write(page: &Path, text: &str) {
    let old = fs::read_to_string(page).expect("the page");
    let (before, rest) = old.split_once(BEGIN).expect("a mark where figures begin");
    let (_, after) = rest.split_once(END).expect("a mark where figures end");
    fs::write(page, format!("{before}{BEGIN}\n{text}\n{END}{after}")).expect("the page");
}

/// All tables.
pub fn text(figures: &Figures) -> String {
    let parts = [setting(figures), starts(figures), reads(figures), aims(figures), rest(figures)];
    parts.join("\n")
}

fn setting(figures: &Figures) -> String {
    let (usual, most) = figures.others_percent();
    let redis = figures.redis.as_ref().map_or("none: not installed".to_owned(), |version| version.clone());
    format!(
        "{}. Redis {redis}. `fdatasync` of 4 KiB: p50 {} ms. Others had {usual:.0} % of the processors (median of all runs; \
         at most {most:.0} %), the kernel's work on the disk included. All of it took {:.0} minutes.\n",
        figures.machine,
        millis(fdatasync(figures)),
        figures.took.as_secs_f64() / 60.0,
    )
}

fn fdatasync(figures: &Figures) -> Option<f64> {
    (!figures.fdatasync_ms.is_empty()).then(|| median(figures.fdatasync_ms.iter().copied()))
}

fn starts(figures: &Figures) -> String {
    let mut text = table(
        "`StartAuthorization`, durable",
        &[
            "live sessions",
            "over",
            "in flight",
            "starts/s",
            "p50 ms",
            "p99 ms",
            "processor µs for each",
            "KiB written for each",
            "echo/s",
            "its processor µs",
            "of the echo",
            "Redis SET/s",
            "of Redis",
            "others",
        ],
    );
    for row in &figures.rows {
        let cells = [
            number(Row::throughput(&row.start)),
            millis(Row::of(&row.start, |m| m.run.p50_ms)),
            millis(Row::of(&row.start, |m| m.run.p99_ms)),
            micros(Row::of(&row.start, |m| m.processor_us)),
            kib(Row::of(&row.start, |m| m.written)),
            number(Row::throughput(&row.echo_start)),
            micros(Row::of(&row.echo_start, |m| m.processor_us)),
            share(Row::ratio(&row.start, &row.echo_start)),
            number(Row::throughput(&row.set)),
            share(Row::ratio(&row.start, &row.set)),
        ];
        line(&mut text, row, &cells);
    }
    text
}

fn reads(figures: &Figures) -> String {
    let mut text = table(
        "`GetSession`, any of the sessions at random",
        &[
            "live sessions",
            "over",
            "in flight",
            "reads/s",
            "p50 ms",
            "p99 ms",
            "processor µs for each",
            "echo/s",
            "of the echo",
            "others",
        ],
    );
    for row in figures.rows.iter().filter(|row| !row.get.is_empty()) {
        let cells = [
            number(Row::throughput(&row.get)),
            millis(Row::of(&row.get, |m| m.run.p50_ms)),
            millis(Row::of(&row.get, |m| m.run.p99_ms)),
            micros(Row::of(&row.get, |m| m.processor_us)),
            number(Row::throughput(&row.echo_get)),
            share(Row::ratio(&row.get, &row.echo_get)),
        ];
        line(&mut text, row, &cells);
    }
    text
}

fn table(title: &str, heads: &[&str]) -> String {
    let rule = "| ---: ".repeat(heads.len());
    format!("### {title}\n\n| {} |\n{rule}|\n", heads.join(" | "))
}

fn line(text: &mut String, row: &Row, cells: &[String]) {
    let over = match row.transport {
        Transport::Unix => "Unix socket",
        Transport::Tcp => "TCP",
    };
    let size = number(Some(row.size as f64));
    let cells = cells.join(" | ");
    let others = row.others_percent();
    let _ = writeln!(text, "| {size} | {over} | {} | {cells} | {others:.0} % |", row.in_flight);
}

/// What is aimed at, and what came out.
fn aims(figures: &Figures) -> String {
    let mut text = String::from("### Aims\n\n| aim | measured | |\n| --- | --- | --- |\n");
    let mut aim = |what: &str, measured: Option<(f64, String)>, holds: &dyn Fn(f64) -> bool| {
        let (shown, verdict) = match measured {
            Some((figure, shown)) => (shown, if holds(figure) { "reached" } else { "**missed**" }),
            None => ("–".to_owned(), "not measured"),
        };
        let _ = writeln!(text, "| {what} | {shown} | {verdict} |");
    };
    let million = |in_flight| figures.find(1_000_000, Transport::Unix, in_flight);
    let plain = |figure: Option<f64>| figure.map(|figure| (figure, format!("{figure:.2}")));

    let at_256 = million(256);
    let echo = at_256.and_then(|row| Row::ratio(&row.start, &row.echo_start));
    aim(
        "a start, 256 in flight, a million sessions: ≥ 0.50 of the echo (0.40 is good)",
        plain(echo),
        &|r| r >= 0.5,
    );
    let redis = at_256.and_then(|row| Row::ratio(&row.start, &row.set));
    aim("the same: ≥ 0.70 of Redis' SET EX, synced", plain(redis), &|r| r >= 0.7);
    let syncs = million(1).and_then(|row| Row::of(&row.start, |m| m.run.p50_ms)).zip(fdatasync(figures));
    aim(
        "a lone start, a million sessions: p50 ≤ 3 × that of `fdatasync`",
        syncs.map(|(p50, sync)| (p50 / sync, format!("{:.1} × ({p50:.2} ms)", p50 / sync))),
        &|r| r <= 3.0,
    );
    let tail = at_256.and_then(|row| Row::of(&row.start, |m| m.run.p99_ms / m.run.p50_ms));
    aim("256 in flight: p99 ≤ 4 × p50", tail.map(|r| (r, format!("{r:.1} ×"))), &|r| r <= 4.0);
    let get = at_256.and_then(|row| Row::ratio(&row.get, &row.echo_get));
    aim("`GetSession`, 256 in flight, a million sessions: ≥ 0.75 of the echo", plain(get), &|r| r >= 0.75);
    for (what, turns) in [("a start", start as fn(&Row) -> &[Measured]), ("a read", read)] {
        let cost = |size| {
            let row = figures.find(size, Transport::Unix, 256)?;
            Row::throughput(turns(row)).map(|throughput| 1.0 / throughput)
        };
        let grown = cost(5_000_000).zip(cost(10_000)).map(|(large, small)| large / small);
        let what = format!("{what} at five million sessions costs ≤ 1.3 × one at 10,000 (256 in flight)");
        aim(&what, grown.map(|r| (r, format!("{r:.2} ×"))), &|r| r <= 1.3);
    }
    let written = at_256.and_then(|row| Row::of(&row.start, |m| m.written / 1024.0));
    aim("written for a start, 256 in flight: ≤ 2 KiB", written.map(|k| (k, format!("{k:.1} KiB"))), &|k| {
        k <= 2.0
    });
    for (sessions, most) in [(100_000, 100.0), (1_000_000, 500.0)] {
        let took = figures.ready.iter().find(|(of, _)| *of == sessions);
        let took = took.map(|(_, all)| median(all.iter().copied()));
        let what =
            format!("ready after `kill -9` at {} sessions: ≤ {most:.0} ms", number(Some(sessions as f64)));
        aim(&what, took.map(|ms| (ms, format!("{ms:.0} ms"))), &|ms| ms <= most);
    }
    let idle =
        (!figures.idle_kib.is_empty()).then(|| median(figures.idle_kib.iter().map(|kib| kib / 1024.0)));
    aim("idle memory: ≤ 16 MiB", idle.map(|mib| (mib, format!("{mib:.1} MiB"))), &|mib| mib <= 16.0);
    let most = figures.memory.iter().map(|memory| memory.most_kib / 1024.0).reduce(f64::max);
    let bound = CACHE as f64 / MIB + 32.0;
    aim(
        &format!("memory under load: ≤ the cache and 32 MiB, so {bound:.0} MiB"),
        most.map(|mib| (mib, format!("{mib:.1} MiB"))),
        &|mib| mib <= bound,
    );
    text
}

fn start(row: &Row) -> &[Measured] {
    &row.start
}

fn read(row: &Row) -> &[Measured] {
    &row.get
}

/// Memory, files, restarts and the sweep.
fn rest(figures: &Figures) -> String {
    let mut text = String::from("### Memory, files, restarts, the sweep\n\n");
    text.push_str(
        "| live sessions | ready after `kill -9` | processor time until looked through | memory then | at most, under load | \
         file |\n| ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for (sessions, took) in &figures.ready {
        let took = median(took.iter().copied());
        let memory = figures.memory.iter().find(|memory| memory.sessions == *sessions);
        let cells = memory.map_or("– | – | – | –".to_owned(), |memory| {
            format!(
                "{:.1} s | {:.0} MiB | {:.0} MiB | {:.0} MiB",
                memory.looked_through.as_secs_f64(),
                memory.before_kib / 1024.0,
                memory.most_kib / 1024.0,
                memory.file_bytes as f64 / MIB,
            )
        });
        let _ = writeln!(text, "| {} | {took:.0} ms | {cells} |", number(Some(*sessions as f64)));
    }
    if let Some(bites) = &figures.bites {
        let run = &figures.while_sweeping.run;
        let _ = write!(
            text,
            "\nThe sweep removed {} old sessions in {} bites. A bite, its search, its writes and its commit together, took {:.1} \
             ms in the middle, {:.1} ms at the 99th percentile and {:.1} ms at most: no other write waits longer for it. While \
             a daemon swept {} of them, lone starts took {:.2} ms in the middle, {:.1} ms at the 99th percentile and {:.1} \
             ms at most.\n",
            number(Some(bites.removed as f64)),
            bites.number,
            bites.median_ms,
            bites.p99_ms,
            bites.longest_ms,
            number(Some(OLD as f64)),
            run.p50_ms,
            run.p99_ms,
            run.longest_ms,
        );
    }
    let _ = writeln!(
        text,
        "\nEach figure is the median of {} turns, each of {} s after {} s of warming up. Values in Redis have {VALUE} bytes.",
        figures.turns,
        SPAN.measured.as_secs_f64(),
        SPAN.warm_up.as_secs_f64(),
    );
    text
}

/// A whole number with its thousands set apart.
pub fn number(figure: Option<f64>) -> String {
    let Some(figure) = figure else { return "–".to_owned() };
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn millis(figure: Option<f64>) -> String {
    figure.map_or("–".to_owned(), |ms| if ms < 10.0 { format!("{ms:.2}") } else { format!("{ms:.0}") })
}

fn micros(figure: Option<f64>) -> String {
    figure.map_or("–".to_owned(), |us| format!("{us:.0}"))
}

fn share(figure: Option<f64>) -> String {
    figure.map_or("–".to_owned(), |share| format!("{share:.2}"))
}

fn kib(bytes: Option<f64>) -> String {
    bytes.map_or("–".to_owned(), |bytes| format!("{:.1}", bytes / 1024.0))
}
