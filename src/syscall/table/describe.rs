//! Parsing of the lines that describe calls and their variants.

use super::{Arg, Choice, Syscall, Variant, Variants};
use crate::constants;
use crate::syscall::Abi;
use crate::syscall::abi::Passing;
use crate::syscall::kind::{Format, Kind, Known, Num};
use crate::syscall::lines::{Entry, Lines, Reading, Same};
use crate::syscall::{Moved, Replay, layout};

impl Choice {
    /// Parses `COMMAND` or `&MASK[=VALUE]`.
    fn parse(text: &str, within: u64, abi: Abi) -> Result<Choice, String> {
        let number = |text: &str| {
            let value = constants::eval_in(abi, text).map(|v| v as u64 & within);
            value.ok_or_else(|| format!("unknown constant {text}"))
        };
        let Some(bits) = text.strip_prefix('&') else {
            let value = Some(number(text)?);
            return Ok(Choice {
                mask: u64::MAX,
                value,
            });
        };
        let (mask, value) = match bits.split_once('=') {
            Some((mask, value)) => (mask, Some(number(value)?)),
            None => (bits, None),
        };
        let mask = number(mask)?;
        Ok(Choice { mask, value })
    }
}

/// Splits a text at commas outside brackets.
fn split_args(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0i32;
    let parts = text.split(move |c| {
        depth += match c {
            '[' => 1,
            ']' => -1,
            _ => 0,
        };
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

impl Syscall {
    /// Reads a call with its variants; returns the errors in the variants, too.
    pub(super) fn read(
        entry: &Entry,
        abi: Abi,
        base: &Lines,
    ) -> Result<(Syscall, Vec<String>), String> {
        let mut errors = Vec::new();
        let call = Syscall::whole(entry, abi, base, None, &mut errors)?;
        Ok((call, errors))
    }

    /// Reads a call, or a variant of `outer`, with its variants. `= NAME …` takes another call's description, and
    /// appends its variants.
    fn whole(
        entry: &Entry,
        abi: Abi,
        base: &Lines,
        outer: Option<&Syscall>,
        errors: &mut Vec<String>,
    ) -> Result<Syscall, String> {
        let same = Same::parse(entry.text)?;
        let own = Reading::plain(abi);
        let mut call = match &same {
            None => Syscall::describe(entry.nr, entry.name, entry.text, own)?,
            Some(same) => {
                let found = base.get(same.name);
                let found = found.ok_or_else(|| format!("no call {}", same.name))?;
                let mut call =
                    Syscall::describe(entry.nr, entry.name, found.text, same.reading(abi))?;
                call.words(same.words)?;
                call
            }
        };
        if let Some(outer) = outer {
            call.inherit(outer);
        }
        let mut add = |of: &Entry, reading: Reading<'_>| {
            for &(nested, line) in &of.variants {
                if let Err(error) = call.variant(line, nested, base, reading, errors) {
                    errors.push(format!("{} {line}: {error}", entry.name));
                }
            }
        };
        add(entry, own);
        if let Some(same) = &same
            && let Some(found) = base.get(same.name)
        {
            add(found, same.reading(abi));
        }
        Ok(call)
    }

    /// Reads a line `COMMAND COMMAND: [NAME](ARGS) RET [by …] : WORDS` or `COMMAND COMMAND: = NAME …`, of this call or
    /// of its last variant.
    fn variant(
        &mut self,
        line: &'static str,
        nested: bool,
        base: &Lines,
        reading: Reading<'_>,
        errors: &mut Vec<String>,
    ) -> Result<(), String> {
        let (commands, description) = line.split_once(": ").ok_or("no commands")?;
        let mut outer = self;
        if nested {
            let variants = outer.variants.as_mut().and_then(|v| v.list.last_mut());
            outer = &mut variants.ok_or("no variant before it")?.call;
        }
        let mask = outer
            .variants
            .as_ref()
            .ok_or("the call has no variants")?
            .mask;
        let choices = commands.split_whitespace();
        let choices = choices.map(|text| Choice::parse(text, mask, reading.abi));
        let choices = choices.collect::<Result<_, String>>()?;
        let entry = Entry::variant(outer, description.trim());
        let call = match entry.text.starts_with('=') {
            true => Syscall::whole(&entry, reading.abi, base, Some(outer), errors)?,
            false => {
                let mut call = Syscall::describe(entry.nr, entry.name, entry.text, reading)?;
                call.inherit(outer);
                call
            }
        };
        if let Some(variants) = outer.variants.as_mut() {
            variants.list.push(Variant { choices, call });
        }
        Ok(())
    }

    /// Takes the classes and the way of passing arguments from the call, unless the variant has its own.
    fn inherit(&mut self, outer: &Syscall) {
        if self.classes.is_empty() {
            self.classes.clone_from(&outer.classes);
        }
        if self.passing == Passing::default() {
            self.passing.clone_from(&outer.passing);
        }
        self.asks = self.asks.or(outer.asks);
    }

    fn describe(
        nr: u32,
        name: &'static str,
        text: &'static str,
        reading: Reading<'_>,
    ) -> Result<Syscall, String> {
        let (text, words) = match text.split_once(" : ") {
            Some((text, words)) => (text, words),
            None => (text.trim_end_matches(" :"), ""),
        };
        let mut call = Syscall {
            abi: reading.abi,
            nr,
            name,
            args: Vec::new(),
            described: text.starts_with('('),
            replay: Replay::Unsupported,
            ret: Kind::Num(Num {
                size: reading.abi.word(),
                signed: true,
                format: Format::Dec,
            }),
            classes: Vec::new(),
            asked_early: false,
            moved: None,
            asks: None,
            infallible: false,
            passing: Passing::default(),
            variants: None,
        };
        let words = if call.described {
            words
        } else {
            text.trim_start_matches(": ")
        };
        if call.described {
            call.replay = Replay::Emulate;
            call.signature(text, reading)?;
        }
        call.words(words)?;
        Ok(call)
    }

    /// Reads the words after the description.
    fn words(&mut self, words: &'static str) -> Result<(), String> {
        for word in words.split_whitespace() {
            match word.split_once('=') {
                Some(("refuse", errno)) => {
                    let errno = constants::errno(errno).ok_or("unknown errno")?;
                    self.replay = Replay::Refuse(errno);
                    self.described = true;
                }
                Some((word, value)) => self.passing = Passing::parse(word, value)?,
                None => match word {
                    "run" => self.replay = Replay::Run,
                    "asked-early" => self.asked_early = true,
                    "unsupported" => self.replay = Replay::Unsupported,
                    "undescribed" => {
                        self.described = false;
                        self.replay = Replay::Unsupported;
                    }
                    "moves-in" => self.moved = Some(Moved::In),
                    "moves-out" => self.moved = Some(Moved::Out),
                    "asks" => self.asks = Some(true),
                    "acts" => self.asks = Some(false),
                    "infallible" => self.infallible = true,
                    class => self.classes.push(class),
                },
            }
        }
        Ok(())
    }

    /// Reads `(ARG KIND, …) RET [by ARG[&MASK]]`.
    fn signature(&mut self, text: &'static str, reading: Reading<'_>) -> Result<(), String> {
        let inner = text.strip_prefix('(').ok_or("no arguments")?;
        let (args, ret) = inner.rsplit_once(')').ok_or("no closing parenthesis")?;
        let parts: Vec<&'static str> = split_args(args).collect();
        let names: Vec<&'static str> = parts
            .iter()
            .filter_map(|part| part.split_whitespace().next())
            .map(|name| name.trim_start_matches('-'))
            .collect();
        let known = Known {
            names: &names,
            layouts: layout::layouts_in(reading.abi),
            abi: reading.abi,
            renames: reading.renames,
        };
        for (part, &name) in parts.iter().zip(&names) {
            let (_, kind) = part
                .split_once(' ')
                .ok_or_else(|| format!("{name}: no kind"))?;
            let (kind, condition) = layout::split_condition(kind, &names)?;
            let mut kind = Kind::parse(kind, known).map_err(|e| format!("{name}: {e}"))?;
            if let (true, Kind::Num(num)) = (reading.shared, &mut kind) {
                num.size = match reading.wide.contains(&name) {
                    true => 8,
                    false => num.size.min(reading.abi.word()), // one register there, one here
                };
            }
            self.args.push(Arg {
                name,
                kind,
                condition,
                hidden: part.starts_with('-'),
            });
        }
        let (ret, by) = match ret.trim().split_once("by ") {
            Some((ret, by)) => (ret.trim(), Some(by.trim())),
            None => (ret.trim(), None),
        };
        if !ret.is_empty() {
            self.ret = Kind::parse(ret, known)?;
        }
        if let Some(by) = by {
            let (arg, mask) = by.split_once('&').unwrap_or((by, "0xffffffff"));
            let mask = reading.mask.unwrap_or(mask);
            self.variants = Some(Variants {
                by: self.arg(arg).ok_or_else(|| format!("no argument {arg}"))?,
                mask: constants::eval(mask).ok_or("a mask is a number")? as u64,
                list: Vec::new(),
            });
        }
        Ok(())
    }

    /// A call of which only the number is known.
    pub(crate) fn nameless(nr: u32, name: &'static str) -> Option<Syscall> {
        const WORDS: &str = "(arg1 hex, arg2 hex, arg3 hex, arg4 hex, arg5 hex, arg6 hex)";
        let mut call = Syscall::describe(nr, name, WORDS, Reading::plain(Abi::X86_64)).ok()?;
        call.described = false;
        Some(call)
    }

    /// A call like `base`, with the description in one line of a table.
    pub(crate) fn made(base: &Syscall, text: &'static str) -> Option<Syscall> {
        let reading = Reading::plain(base.abi);
        let mut call = Syscall::describe(base.nr, base.name, text, reading).ok()?;
        call.classes.clone_from(&base.classes);
        Some(call)
    }
}
