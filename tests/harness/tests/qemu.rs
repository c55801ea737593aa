//! Boots each guest suite and reports its cases one by one, in the manner of `cargo test`.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use xtask::setting::Setting;
use xtask::suite::Event;
use xtask::{install, test};

fn main() -> ExitCode {
    match carry_out() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::from_args();
    install::ensure()?;
    let plain = Setting::plain(1);
    let mut trials = Vec::new();
    for name in test::SUITES {
        if arguments.list {
            let mut listed = Vec::new();
            test::run_suite(name, vec!["--list".to_owned()], plain, &mut |event| {
                if let Event::Listed(case) = event {
                    listed.push(format!("{name}::{case}"));
                }
            })?;
            trials.extend(listed.into_iter().map(|case| Trial::test(case, || Ok(()))));
            continue;
        }
        let filter = arguments
            .filter
            .iter()
            .map(|text| test::own_filter(name, text))
            .collect();
        let (suite, end) = test::run_suite(name, filter, plain, &mut |_| {})?;
        trials.extend(
            harness::outcomes(name, &suite, &end)
                .into_iter()
                .map(|outcome| {
                    Trial::test(outcome.name, move || {
                        outcome.failure.map_or(Ok(()), |why| Err(Failed::from(why)))
                    })
                }),
        );
    }
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}
