//! `cairlctl backup`, `restore` and `store`, from argument to exit code.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{fake::backup, *};

fn at(fake: &Fake, on_terminal: bool, rest: &[&str]) -> Outcome {
    let arguments = [&["--endpoint", fake.endpoint()], rest].concat();
    cairlctl_on(on_terminal, &mut future::pending(), &arguments, b"")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn names(folder: &TempDir) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_backup_is_a_new_file_of_its_owners_alone() {
    let (fake, folder) = (Fake::on_unix(), TempDir::new().unwrap());
    let file = folder.path().join("b");
    let told = at(&fake, false, &["backup", text(&file)]);
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    assert!(told.out.starts_with(" 33 %  1 of 3 records\n"), "{}", told.out);
    assert!(told.out.contains("records       3\n"), "{}", told.out);
    assert_eq!(fs::read(&file).unwrap(), backup());
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    let again = at(&fake, false, &["backup", text(&file)]);
    assert_eq!(again.code, 74);
    assert!(again.err.contains("is there already"), "{}", again.err);
    fs::remove_file(&file).unwrap();
    let told = at(&fake, true, &["backup", text(&file)]);
    assert!(
        told.out.contains("\r\u{1b}[K[#######.................]  33 %  1 of 3 records"),
        "{:?}",
        told.out
    );
    fs::remove_file(&file).unwrap();
    let told = at(&fake, true, &["--json", "backup", text(&file)]);
    let told: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!((&told["records"], &told["bytes"]), (&json!(3), &json!(backup().len())));
    assert_eq!(names(&folder), ["b"], "nothing is left over");
}

#[test]
fn a_backup_on_standard_output_is_nothing_else() {
    let told = at(&Fake::on_unix(), false, &["backup", "-"]);
    assert_eq!((told.code, told.raw), (0, backup()));
    let told = at(&Fake::on_unix(), true, &["backup", "-"]);
    assert_eq!((told.code, told.raw.len()), (64, 0), "{}", told.err);
    assert!(told.err.contains("terminal"), "{}", told.err);
}

#[test]
fn a_backup_that_is_cut_short_is_none() {
    let (fake, folder) = (Fake::on_unix().flawed(), TempDir::new().unwrap());
    let told = at(&fake, false, &["backup", text(&folder.path().join("b"))]);
    assert_eq!(told.code, 69);
    assert!(told.err.contains("ended the stream"), "{}", told.err);
    assert_eq!(names(&folder), [""; 0]);
    let ending: &mut dyn FnMut(Ended) -> Outcome = &mut |ended| {
        let file = folder.path().join("b");
        let arguments = ["--endpoint", fake.endpoint(), "backup", text(&file)];
        cairlctl_until(&mut future::ready(ended), &arguments, b"")
    };
    assert_eq!(ending(Ended::Interrupted).code, 130);
    assert_eq!(ending(Ended::ReaderGone).code, 74, "a backup that is not there is no success");
    assert_eq!(names(&folder), [""; 0]);
}

#[test]
fn what_is_restored_is_whole_and_where_nothing_was() {
    let folder = TempDir::new().unwrap();
    let (file, store) = (folder.path().join("b"), folder.path().join("store.redb"));
    let restore = || cairlctl(&["restore", text(&file), "--to", text(&store)], b"");
    let missing = restore();
    assert_eq!(missing.code, 66, "{}", missing.err);

    let whole = backup();
    let mut changed = whole.clone();
    changed[20] ^= 1;
    let other = [b"cairld backup 2\n", &whole[16..]].concat();
    for (bytes, why) in [
        (&whole[..whole.len() - 1], "not whole"),
        (&whole[..10], "no backup"),
        (&[], "no backup"),
        (&changed, "not whole"),
        (&other, "another version"),
    ] {
        fs::write(&file, bytes).unwrap();
        let refused = restore();
        assert_eq!(refused.code, 65, "{}", refused.err);
        assert!(refused.err.contains(why) && refused.err.contains("Nothing was changed"), "{}", refused.err);
        assert_eq!(names(&folder), ["b"]);
    }

    fs::write(&file, &whole).unwrap();
    let restored = restore();
    assert_eq!((restored.code, restored.err.as_str()), (0, ""));
    assert!(restored.out.contains("start cairld"), "{}", restored.out);
    assert_eq!(fs::read(&store).unwrap(), whole);
    assert_eq!(store.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let again = restore();
    assert_eq!(again.code, 74, "what is there is not written over: {}", again.err);
    assert_eq!(names(&folder), ["b", "store.redb"]);
}

#[test]
fn a_pipe_is_restored_without_a_part_of_what_nobody_knows() {
    for on_terminal in [true, false] {
        let folder = TempDir::new().unwrap();
        let (pipe, store) = (folder.path().join("pipe"), folder.path().join("store.redb"));
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let into = pipe.clone();
        let writer = std::thread::spawn(move || fs::write(into, backup()).unwrap());
        let arguments = ["restore", text(&pipe), "--to", text(&store)];
        let restored = cairlctl_on(on_terminal, &mut future::pending(), &arguments, b"");
        writer.join().unwrap();
        assert_eq!((restored.code, restored.err.as_str()), (0, ""));
        assert_eq!(fs::read(&store).unwrap(), backup());
        assert!(!restored.out.contains('%'), "{:?}", restored.out);
        assert_eq!(restored.out.contains("bytes copied and looked at"), on_terminal, "{:?}", restored.out);
    }
}

#[test]
fn a_look_at_the_store_tells_each_problem_and_its_end() {
    let fake = Fake::on_unix();
    let sound = at(&fake, false, &["store", "verify"]);
    let expected = " 50 %  50 of 100 records looked at\n100 %  100 of 100 records looked at\n";
    assert_eq!(sound.out, format!("{expected}100 records, all of them sound\n"));
    assert_eq!(sound.code, 0);

    let fake = Fake::on_unix().flawed();
    for on_terminal in [false, true] {
        let damaged = at(&fake, on_terminal, &["store", "verify"]);
        assert_eq!(damaged.code, 1, "{}", damaged.err);
        assert!(damaged.out.contains("sessions 00ff: damaged \\u{1b}[2J\n"), "{:?}", damaged.out);
        assert!(damaged.out.contains("100 records, 2 problems told"), "{:?}", damaged.out);
    }
    let damaged = at(&fake, true, &["--json", "store", "verify"]);
    let lines: Vec<Value> = damaged.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((damaged.code, lines.len()), (1, 2));
    assert_eq!(lines[1]["problems"].as_array().unwrap().len(), 2);
}

#[test]
fn what_compacting_gave_back_is_told() {
    let told = at(&Fake::on_unix(), false, &["store", "compact"]);
    assert_eq!(told.out, "before  2.0 KiB (2048 bytes)\nafter   1.0 KiB (1024 bytes)\n");
    assert_eq!(told.code, 0);
}
