//! The image from end to end: what the builder writes, the reader reads; what is damaged is
//! refused with an error that names the place, and nothing makes a reader panic.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::Write;

use bootimg::{
    Ends, Image, ImageBuilder, ImageError, Level, MANIFEST_FILE, MAX_FILES, Manifest, ManifestSpec,
    Rights, TaskSpec,
};
use proptest::prelude::*;

fn spec() -> ManifestSpec {
    let mut server = TaskSpec::new("vm-server", Level::Server);
    server.resident = true;
    let mut bootstrap = TaskSpec::new("bootstrap", Level::Bootstrap);
    bootstrap.rights = Rights {
        host: true,
        device: true,
    };
    let mut client = TaskSpec::new("demo", Level::Client);
    client.quota = Some(100);
    client.args = vec![
        "one".into(),
        String::new(),
        "a=b, c # d".into(),
        "größe".into(),
    ];
    let mut pager = TaskSpec::new("keeper", Level::Module);
    pager.file = "demo.elf".into();
    pager.restart = 7;
    ManifestSpec {
        ends: Ends::Never,
        options: vec![
            ("log".into(), "info".into()),
            ("greeting".into(), "hello = world".into()),
        ],
        tasks: vec![server, bootstrap, client, pager],
    }
}

fn builder() -> ImageBuilder {
    let mut builder = ImageBuilder::new();
    builder.file("vm-server.elf", vec![1; 700]);
    builder
        .file("bootstrap.elf", Vec::new())
        .file("demo.elf", vec![3; 512]);
    builder
}

fn image() -> Vec<u8> {
    builder().build(&spec()).unwrap()
}

/// The image with its manifest replaced, made without the builder's own checks.
fn with_manifest(text: &str) -> Vec<u8> {
    archive(&[(MANIFEST_FILE, text.as_bytes()), ("vm-server.elf", b"x")])
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_size(data.len() as u64);
        header.set_cksum();
        archive.append(&header, *data).unwrap();
    }
    archive.into_inner().unwrap()
}

#[test]
fn what_is_written_is_read() {
    let bytes = image();
    let image = Image::parse(&bytes).unwrap();
    let names: Vec<_> = image.files().map(|file| file.name).collect();
    assert_eq!(
        names,
        [MANIFEST_FILE, "vm-server.elf", "bootstrap.elf", "demo.elf"]
    );
    assert_eq!(image.file("vm-server.elf"), Some(&[1; 700][..]));
    assert_eq!(image.file("bootstrap.elf"), Some(&[][..]));
    assert_eq!(image.file("none"), None);
    let found = image.find("demo.elf").unwrap();
    assert_eq!(&bytes[found.offset..found.offset + 512], found.data);

    let manifest = image.manifest().unwrap();
    assert_eq!(manifest.ends(), Ends::Never);
    assert_eq!(manifest.option("greeting"), Some("hello = world"));
    assert_eq!(manifest.option("none"), None);
    let tasks: Vec<_> = manifest
        .tasks()
        .map(|task| (task.name, task.level))
        .collect();
    assert_eq!(
        tasks,
        [
            ("vm-server", Level::Server),
            ("bootstrap", Level::Bootstrap),
            ("demo", Level::Client),
            ("keeper", Level::Module)
        ]
    );
    assert!(manifest.task("vm-server").unwrap().resident);
    assert_eq!(
        manifest.task("bootstrap").unwrap().rights,
        Rights {
            host: true,
            device: true
        }
    );
    assert_eq!(manifest.task("demo").unwrap().quota, Some(100 * 1024));
    assert_eq!(manifest.task("keeper").unwrap().restart, 7);
    let args: Vec<_> = manifest.task("demo").unwrap().args().collect();
    assert_eq!(args, ["one", "", "a=b, c # d", "größe"]);
    assert_eq!(manifest.task("vm-server").unwrap().args().count(), 0);
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    assert_eq!(image(), image());
    assert!(image().len().is_multiple_of(512));
}

#[test]
fn ordinary_tools_list_it() {
    let bytes = image();
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut listing = String::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap()), (0, 0));
        writeln!(
            listing,
            "{} {}",
            entry.path().unwrap().display(),
            entry.size()
        )
        .unwrap();
    }
    assert!(
        listing.contains("vm-server.elf 700\nbootstrap.elf 0\n"),
        "{listing}"
    );
}

#[test]
fn the_builder_refuses_what_the_reader_would() {
    let refused =
        |spec: &ManifestSpec, builder: &ImageBuilder| builder.build(spec).unwrap_err().to_string();
    let mut missing = spec();
    missing.tasks[2].file = "other.elf".into();
    assert!(refused(&missing, &builder()).contains("`demo` names `other.elf`"));

    let mut twice = builder();
    twice.file("demo.elf", Vec::new());
    assert!(refused(&spec(), &twice).contains("`demo.elf` is there twice"));

    let mut broken = spec();
    broken.tasks[2].args = vec!["one\ntwo".into()];
    assert!(refused(&broken, &builder()).contains("unknown line `two`"));
    broken.tasks[2].args = vec!["one\n# two".into()];
    assert!(refused(&broken, &builder()).contains("line break"));

    let mut long = builder();
    long.file(&"x".repeat(101), Vec::new());
    assert!(refused(&spec(), &long).contains("xxx"));
}

#[test]
fn damage_to_the_archive_is_named() {
    let refused = |bytes: &[u8]| Image::parse(bytes).unwrap_err().to_string();
    let good = image();
    assert!(refused(&[]).contains("no data"));
    assert!(refused(&good[..513]).contains("multiple of 512"));
    assert!(refused(&good[..512]).contains("too short"));
    assert!(refused(&good[..2048]).contains("no complete tar archive"));
    let mut bad_sum = good.clone();
    bad_sum[3] ^= 1;
    assert!(refused(&bad_sum).contains("block 0 has an invalid checksum"));
}

#[test]
fn entries_that_are_no_files_and_odd_names_are_refused() {
    let entry = |change: &dyn Fn(&mut tar::Header)| {
        let mut header = tar::Header::new_ustar();
        header.set_path("name").unwrap();
        header.set_size(0);
        change(&mut header);
        header.set_cksum();
        let mut archive = tar::Builder::new(Vec::new());
        archive.append(&header, &b""[..]).unwrap();
        archive.into_inner().unwrap()
    };
    let folder = entry(&|header| header.set_entry_type(tar::EntryType::Directory));
    assert_eq!(
        Image::parse(&folder).unwrap_err(),
        ImageError::NotAFile { block: 0 }
    );
    let link = entry(&|header| header.set_entry_type(tar::EntryType::Symlink));
    assert_eq!(
        Image::parse(&link).unwrap_err(),
        ImageError::NotAFile { block: 0 }
    );
    let nameless = entry(&|header| header.as_old_mut().name = [0; 100]);
    assert_eq!(
        Image::parse(&nameless).unwrap_err(),
        ImageError::BadName { block: 0 }
    );
    let binary = entry(&|header| header.as_old_mut().name[0] = 0xff);
    assert_eq!(
        Image::parse(&binary).unwrap_err(),
        ImageError::BadName { block: 0 }
    );
    let prefixed = entry(&|header| header.as_ustar_mut().unwrap().prefix[0] = b'p');
    assert_eq!(
        Image::parse(&prefixed).unwrap_err(),
        ImageError::BadName { block: 0 }
    );
    assert_eq!(
        Image::parse(&archive(&[("a", b""), ("b", b""), ("a", b"")])).unwrap_err(),
        ImageError::Duplicate { file: "a" }
    );
    let names: Vec<String> = (0..=MAX_FILES).map(|number| number.to_string()).collect();
    let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    assert_eq!(
        Image::parse(&archive(&many)).unwrap_err(),
        ImageError::TooManyFiles
    );
}

#[test]
fn faults_of_the_manifest_are_faults_of_the_image() {
    let refused = |bytes: &[u8]| {
        Image::parse(bytes)
            .unwrap()
            .manifest()
            .unwrap_err()
            .to_string()
    };
    assert!(refused(&archive(&[("a", b"")])).contains("`manifest` is missing"));
    assert!(refused(&archive(&[(MANIFEST_FILE, b"\xff")])).contains("not UTF-8"));
    assert!(refused(&with_manifest("pagoda 2\n")).contains("manifest line 1"));
    let text = "pagoda 1\ntask a file=a.elf level=server\n";
    assert_eq!(
        refused(&with_manifest(text)),
        "boot image: task `a` names `a.elf`, which is not in the image"
    );
}

/// Reads all that there is to read.
fn read_everything(bytes: &[u8]) -> usize {
    let Ok(image) = Image::parse(bytes) else {
        return 0;
    };
    let files: usize = image.files().map(|file| file.data.len()).sum();
    files
        + image
            .manifest()
            .map_or(0, |manifest| read_manifest(&manifest))
}

fn read_manifest(manifest: &Manifest<'_>) -> usize {
    let tasks = manifest
        .tasks()
        .map(|task| task.args().count() + task.file.len());
    tasks.sum::<usize>() + manifest.options().count()
}

proptest! {
    #[test]
    fn a_damaged_image_makes_no_reader_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        length in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = image();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        // The checksum would catch most damage to a header, so that what lies behind it would
        // never be met: make it right again.
        for block in [0, 1024, 1024 + 1536] {
            mend(&mut bytes, block);
        }
        if cut {
            bytes.truncate(length.index(bytes.len() / 512) * 512);
        }
        read_everything(&bytes);
    }

    #[test]
    fn a_damaged_manifest_makes_no_reader_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), " =,#\nabx0ö"), 0..8),
    ) {
        let mut text = spec().to_string();
        for (at, piece) in damage {
            let at = at.index(text.len());
            if text.is_char_boundary(at) {
                text.insert_str(at, &piece);
            }
        }
        if let Ok(manifest) = Manifest::parse(&text) {
            read_manifest(&manifest);
        }
    }

    #[test]
    fn any_text_makes_no_reader_panic(text in "(pagoda 1\n)?((task|arg|option|ends| |=|[a-z]|\n|#|\\PC){0,60})") {
        let _ = Manifest::parse(&text);
    }
}

/// Writes the right checksum into the header at `at`, if one is there.
fn mend(bytes: &mut [u8], at: usize) {
    if let Some(header) = bytes.get_mut(at..at + 512) {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}
