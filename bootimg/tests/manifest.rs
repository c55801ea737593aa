//! Each refusal of the manifest's parser, with its line and its words; and what is accepted.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use bootimg::{Ends, Level, MAX_ARGS, MAX_NAME, MAX_TASKS, MAX_VALUE, Manifest, Rights};

const SERVER: &str = "task s file=s.elf level=server\n";
const BOOTSTRAP: &str = "task b file=b.elf level=bootstrap\n";

/// The refusal of a manifest with these lines after the first, the server and bootstrap.
fn refused(lines: &str) -> String {
    let text = format!("pagoda 1\n{SERVER}{BOOTSTRAP}{lines}");
    Manifest::parse(&text).unwrap_err().to_string()
}

#[test]
fn comments_and_empty_lines_say_nothing() {
    let text = format!("# first\n\npagoda 1\n# task x\n\n{SERVER}");
    let manifest = Manifest::parse(&text).unwrap();
    assert_eq!(manifest.tasks().count(), 1);
    assert_eq!(manifest.ends(), Ends::LastClient);
}

#[test]
fn all_levels_and_rights_are_known() {
    let text = format!(
        "pagoda 1\n{SERVER}{BOOTSTRAP}task p file=p level=pager rights=device quota=4K restart=3\n\
         task c file=c level=client rights=host resident\ntask m level=module file=m"
    );
    let manifest = Manifest::parse(&text).unwrap();
    let levels: Vec<_> = manifest.tasks().map(|task| task.level).collect();
    assert_eq!(
        levels,
        [
            Level::Server,
            Level::Bootstrap,
            Level::Pager,
            Level::Client,
            Level::Module
        ]
    );
    assert_eq!(
        manifest.task("p").unwrap().rights,
        Rights {
            host: false,
            device: true
        }
    );
    assert_eq!(manifest.task("p").unwrap().quota, Some(4096));
    assert_eq!(manifest.task("p").unwrap().restart, 3);
    let client = manifest.task("c").unwrap();
    assert_eq!((client.quota, client.restart), (None, 0));
    assert_eq!(
        (client.rights, client.resident),
        (
            Rights {
                host: true,
                device: false
            },
            true
        )
    );
    assert_eq!(manifest.task("none"), None);
}

#[test]
fn arguments_belong_to_the_task_above_whatever_stands_between() {
    let text = format!(
        "pagoda 1\n{SERVER}{BOOTSTRAP}task c file=c level=client\narg one\n# no\noption k=v\narg \
         two words\nends never\narg\ntask d file=d level=client\narg of d\n"
    );
    let manifest = Manifest::parse(&text).unwrap();
    let args = |name| manifest.task(name).unwrap().args().collect::<Vec<_>>();
    assert_eq!(args("c"), ["one", "two words", ""]);
    assert_eq!(args("d"), ["of d"]);
    assert_eq!(args("s"), [""; 0]);
    assert_eq!(manifest.options().collect::<Vec<_>>(), [("k", "v")]);
    assert_eq!(manifest.ends(), Ends::Never);
}

#[test]
fn the_first_line_is_the_version() {
    for text in ["", "# nothing\n", "pagoda 2\n", SERVER, "pagoda 1 \n"] {
        let error = Manifest::parse(text).unwrap_err().to_string();
        assert!(error.contains("`pagoda 1`"), "{text:?}: {error}");
    }
}

#[test]
fn text_is_text_of_bounded_length() {
    for text in ["pagoda 1\r\n", "pagoda 1\n\0", &"x".repeat(1 << 17)] {
        let error = Manifest::parse(text).unwrap_err();
        assert_eq!(error.line, 0);
        assert!(error.to_string().contains("not UTF-8 text"), "{error}");
    }
}

#[test]
fn a_typing_error_is_an_error() {
    for (lines, words) in [
        ("tasks\n", "line 4: unknown line `tasks`"),
        (" task\n", "line 4: unknown line ``"),
        ("\n\nends now\n", "line 6: `ends now`"),
        ("ends never\nends never\n", "line 5: a second `ends`"),
        ("option log\n", "`option log`"),
        ("option =x\n", "`` is no name"),
        ("option a b=x\n", "`a b` is no name"),
        ("option a=1\noption a=2\n", "`a` is there twice"),
        ("task\n", "`` is no name"),
        ("task a/b file=x level=client\n", "`a/b` is no name"),
        ("task s file=x level=client\n", "`s` is there twice"),
        (
            "task x file=x level=client wired\n",
            "unknown field `wired`",
        ),
        (
            "task x file=x level=client resident=1\n",
            "unknown field `resident=1`",
        ),
        ("task x file=x  level=client\n", "unknown field ``"),
        (
            "task x file=x level=client level=client\n",
            "`level` is given twice",
        ),
        (
            "task x file=x level=client quota=12M\n",
            "`quota=12M`: expected a number of KiB, like `512K`",
        ),
        (
            "task x file=x level=client quota=012K\n",
            "`quota=012K`: expected a number of KiB",
        ),
        (
            "task x file=x level=client quota=18446744073709551615K\n",
            "expected a number of KiB",
        ),
        (
            "task x file=x level=client restart=1\n",
            "`restart=1`: expected 1 to 99, for a task of level pager or module",
        ),
        (
            "task x file=x level=module restart=0\n",
            "`restart=0`: expected 1 to 99",
        ),
        (
            "task x file=x level=module restart=+1\n",
            "`restart=+1`: expected 1 to 99",
        ),
        (
            "task x file=x level=module restart=100\n",
            "`restart=100`: expected 1 to 99",
        ),
        (
            "task x file=x level=module restart=1 restart=1\n",
            "`restart` is given twice",
        ),
        (
            "task x file=x level=client resident resident\n",
            "`resident` is given twice",
        ),
        ("task x level=client\n", "needs `file=`"),
        ("task x file=x\n", "needs `level=`"),
        ("task x file= level=client\n", "`file=`: expected"),
        ("task x file=x level=king\n", "unknown level `king`"),
        ("task x file=x level=client rights=root\n", "right `root`"),
        (
            "task x file=x level=client rights=host,host\n",
            "right `host`",
        ),
        ("task x file=x level=client rights=\n", "right ``"),
        (
            "task x file=x level=server\n",
            "`x` comes after one of a later level",
        ),
        (
            "task x file=x level=bootstrap\n",
            "a second task of level `bootstrap`",
        ),
    ] {
        let error = refused(lines);
        assert!(error.contains(words), "{lines:?}: {error}");
    }
}

#[test]
fn a_server_is_needed_and_a_bootstrap_for_what_it_starts() {
    let parse = |text: &str| Manifest::parse(text).unwrap_err().to_string();
    assert!(parse("pagoda 1\n").contains("no task of level `server`"));
    assert!(parse(&format!("pagoda 1\n{BOOTSTRAP}")).contains("no task of level `server`"));
    let client = format!("pagoda 1\n{SERVER}task c file=c level=client\n");
    assert!(parse(&client).contains("no task of level `bootstrap`"));
    assert!(parse("pagoda 1\narg x\n").contains("`arg` before any task"));
    let two = format!("pagoda 1\n{SERVER}task t file=t level=server\n");
    assert!(parse(&two).contains("a second task of level `server`"));
}

#[test]
fn limits_hold_exactly() {
    let accepts =
        |lines: &str| Manifest::parse(&format!("pagoda 1\n{SERVER}{BOOTSTRAP}{lines}")).is_ok();
    assert!(accepts(&"arg x\n".repeat(MAX_ARGS)));
    assert!(refused(&"arg x\n".repeat(MAX_ARGS + 1)).contains("more than 32 arguments"));
    assert!(accepts(&format!("arg {}\n", "x".repeat(MAX_VALUE))));
    assert!(refused(&format!("arg {}\n", "x".repeat(MAX_VALUE + 1))).contains("over 256 bytes"));
    assert!(accepts(&format!("option k={}\n", "x".repeat(MAX_VALUE))));
    assert!(refused(&format!("option k={}\n", "x".repeat(MAX_VALUE + 1))).contains("at most 256"));
    let name = "n".repeat(MAX_NAME);
    assert!(accepts(&format!("task {name} file=x level=client\n")));
    assert!(refused(&format!("task {name}n file=x level=client\n")).contains("is no name"));
    let file = "f".repeat(100);
    assert!(accepts(&format!("task x file={file} level=client\n")));
    assert!(refused(&format!("task x file={file}f level=client\n")).contains("1 to 100 bytes"));
    let tasks = |count: usize| -> String {
        (0..count)
            .map(|number| format!("task t{number} file=x level=client\n"))
            .collect()
    };
    assert!(accepts(&tasks(MAX_TASKS - 2)));
    assert!(refused(&tasks(MAX_TASKS - 1)).contains("more than 64 tasks"));
}
