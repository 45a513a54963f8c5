//! `qsc scoreboard --watch`: the scoreboard live on a terminal.

use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Paragraph, Sparkline};
use ratatui::{DefaultTerminal, Frame};
use signal_hook::low_level;

use crate::exit::Exit;
use crate::gate::{
    Actions, Drift, ModelVerdict, Outcome, QualityVerdict, Rules, Scoreboard, Signal, Standing, Terms,
};
use crate::judge::{self, EventSource};
use crate::report::{Format, one_line, percent};
use crate::signals::Stop;
use crate::stream::{format_rfc3339, now_ms};

/// Pause between two readings of the source.
const REFRESH: Duration = Duration::from_secs(2);
/// How long a key may wait.
const TICK: Duration = Duration::from_millis(100);
/// Rows of one model, with its frame.
const MODEL_ROWS: u16 = 7;

/// One reading, or why there is none.
type Reading = Result<Box<Seen>, String>;

struct Seen {
    at: u64,
    verdict: QualityVerdict,
    board: Scoreboard,
}

/// What the screen shows: the last reading that worked, and the last error since.
#[derive(Default)]
struct Screen {
    source: String,
    seen: Option<Box<Seen>>,
    error: Option<String>,
    colours: bool,
    first_model: usize,
}

/// Shows the scoreboard until `q`. The exit code is that of the last scoreboard shown: only all GO is a pass. While an error
/// is shown instead, it is that of an error.
pub(super) fn run(
    source: &EventSource,
    terms: &Terms,
    rules: &Rules,
    drift: Option<&Drift>,
    format: Format,
) -> anyhow::Result<Exit> {
    ensure!(
        format == Format::Text && io::stdout().is_terminal() && io::stdin().is_terminal(),
        "--watch draws on a terminal, as text; leave it away for one scoreboard on stdout"
    );
    let stop = Stop::watch()?;
    let readings = read_in_background(source.clone(), *terms, rules.clone(), drift.cloned());
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut screen = Screen { source: source.header(Some(0))?.source, colours, ..Screen::default() };
    // From here on a panic restores the terminal too, before it is printed.
    let mut terminal = ratatui::try_init().context("cannot draw on this terminal")?;
    let ended = show(&mut terminal, &mut screen, &readings, &stop);
    ratatui::restore();
    ended?;
    if let Some(signal) = stop.signal() {
        // With the terminal restored, the signal may end the process as it ends every command.
        low_level::raise(signal).context("cannot end on the signal")?;
    }
    Ok(match screen.seen {
        Some(seen) if screen.error.is_none() => seen.board.outcome.exit(),
        _ => Exit::Error,
    })
}

/// Reads and judges again and again, so that a slow source never holds up a key.
fn read_in_background(
    source: EventSource,
    terms: Terms,
    rules: Rules,
    drift: Option<Drift>,
) -> Receiver<Reading> {
    let (sender, readings) = mpsc::sync_channel(1);
    thread::spawn(move || {
        loop {
            let judged = judge::quality_with_drift(&source, terms, &rules, drift.clone(), |_| ());
            let reading = judged.and_then(|verdict| {
                let board = Scoreboard::of(&verdict);
                Ok(Box::new(Seen { at: now_ms()?, verdict, board }))
            });
            if sender.send(reading.map_err(|error| format!("{error:#}"))).is_err() {
                return;
            }
            thread::sleep(REFRESH);
        }
    });
    readings
}

fn show(
    terminal: &mut DefaultTerminal,
    screen: &mut Screen,
    readings: &Receiver<Reading>,
    stop: &Stop,
) -> anyhow::Result<()> {
    while !stop.requested() {
        match readings.try_recv() {
            Ok(Ok(seen)) => (screen.seen, screen.error) = (Some(seen), None),
            Ok(Err(error)) => screen.error = Some(error),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => {
                bail!("the reader of the source ended; start the scoreboard again")
            }
        }
        terminal.draw(|frame| screen.draw(frame)).context("cannot draw on this terminal")?;
        if !event::poll(TICK).context("cannot read keys")? {
            continue;
        }
        let Event::Key(key) = event::read().context("cannot read keys")? else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
            KeyCode::Down | KeyCode::Char('j') => screen.first_model += 1,
            KeyCode::Up | KeyCode::Char('k') => screen.first_model = screen.first_model.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

impl Screen {
    fn draw(&mut self, frame: &mut Frame<'_>) {
        let [head, body, foot] =
            Layout::vertical([Constraint::Length(4), Constraint::Min(0), Constraint::Length(1)])
                .areas(frame.area());
        self.draw_head(frame, head);
        self.draw_models(frame, body);
        let keys = match &self.error {
            Some(error) => Line::styled(format!(" {}", one_line(error)), self.colour(Color::Red)),
            None => Line::styled(" q quits · ↑↓ scroll", self.dim()),
        };
        frame.render_widget(Paragraph::new(keys), foot);
    }

    fn draw_head(&self, frame: &mut Frame<'_>, area: Rect) {
        let Some(Seen { at, verdict, board }) = self.seen.as_deref() else {
            let waiting = Line::from(format!(" reading {} …", one_line(&self.source)));
            frame.render_widget(Paragraph::new(vec![Line::from(""), waiting]), area);
            return;
        };
        let (word, colour) = match board.outcome {
            Outcome::Pass => (" ALL GO ", Color::Green),
            Outcome::Fail => (" BLOCKED ", Color::Red),
            Outcome::Inconclusive | Outcome::Collection => (" WAIT ", Color::Yellow),
        };
        let title = Line::from(vec![
            Span::styled(" QSC scoreboard ", Style::new().add_modifier(Modifier::BOLD)),
            Span::styled(word, self.badge(colour)),
            Span::styled(format!("  {} · {}", format_rfc3339(*at), one_line(&self.source)), self.dim()),
        ]);
        let figures = format!(
            " {} events · {} corrupt · agreement {} · hard disagreement {}",
            verdict.events.count,
            verdict.events.malformed,
            percent(board.ensemble.agreement_pct),
            percent(board.ensemble.hard_disagreement_pct),
        );
        let mut lines = vec![title, Line::from(figures)];
        if let Some(reason) = board.reasons.first() {
            lines.push(Line::styled(format!(" {}", one_line(reason)), self.colour(Color::Yellow)));
        }
        if !verdict.loosened.is_empty() {
            let rules = verdict.loosened.join(", ");
            lines.push(Line::styled(format!(" LOOSENED {}", one_line(&rules)), self.colour(Color::Yellow)));
        }
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn draw_models(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let Some(seen) = self.seen.as_deref() else { return };
        let Seen { verdict, board, .. } = seen;
        let shown = usize::from(area.height / MODEL_ROWS).max(1);
        self.first_model = self.first_model.min(board.signals.len().saturating_sub(shown));
        let models = board.signals.iter().skip(self.first_model).take(shown);
        for (at, (name, standing)) in models.enumerate() {
            let Some(model) = verdict.models.get(name) else { continue };
            let top = area.y.saturating_add(MODEL_ROWS.saturating_mul(u16::try_from(at).unwrap_or(u16::MAX)));
            let place = Rect { y: top, height: MODEL_ROWS, ..area }.intersection(area);
            self.draw_model(frame, place, name, standing, model);
        }
    }

    fn draw_model(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        name: &str,
        standing: &Standing,
        model: &ModelVerdict,
    ) {
        let colour = match standing.signal {
            Signal::Go => Color::Green,
            Signal::Wait => Color::Yellow,
            Signal::NoGo => Color::Red,
        };
        let title = Line::from(vec![
            Span::raw(" "),
            Span::styled(format!(" {} ", standing.signal.name()), self.badge(colour)),
            Span::styled(format!(" {} ", one_line(name)), Style::new().add_modifier(Modifier::BOLD)),
        ]);
        let block =
            Block::bordered().border_type(BorderType::Rounded).border_style(self.colour(colour)).title(title);
        let inner = block.inner(area);
        frame.render_widget(block, area);
        let [spark, bar, figures, reason] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(1),
        ])
        .areas(inner);
        let width = usize::from(spark.width);
        let recent = &model.recent[model.recent.len().saturating_sub(width)..];
        let levels: Vec<u64> = recent.iter().map(|confidence| (confidence * 1000.0) as u64).collect();
        frame.render_widget(
            Sparkline::default().data(&levels).max(1000).style(self.colour(Color::Cyan)),
            spark,
        );
        frame.render_widget(Paragraph::new(self.action_bar(&model.actions, bar.width)), bar);
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        let Actions { buy, sell, hold } = model.actions;
        let confidence = &model.confidence;
        let line = format!(
            "BUY {buy} · HOLD {hold} · SELL {sell}   mean {} std {} P10 {} P90 {}",
            number(confidence.mean),
            number(confidence.std),
            number(confidence.p10),
            number(confidence.p90),
        );
        frame.render_widget(Paragraph::new(line), figures);
        let mut last = Vec::new();
        if let Some(why) = standing.reasons.first() {
            last.push(Span::styled(one_line(why), self.colour(colour)));
        }
        if model.inactive > 0 {
            let reasons: Vec<String> = model
                .inactive_reasons
                .iter()
                .map(|(reason, count)| format!("{} {count}", one_line(reason)))
                .collect();
            let gap = if last.is_empty() { "" } else { "   " };
            last.push(Span::styled(format!("{gap}inactive: {}", reasons.join(", ")), self.dim()));
        }
        frame.render_widget(Paragraph::new(Line::from(last)), reason);
    }

    /// The shares of the actions as one bar; without colours each has its own pattern.
    fn action_bar(&self, actions: &Actions, width: u16) -> Line<'static> {
        let parts = [
            (actions.buy, Color::Green, '█'),
            (actions.hold, Color::Gray, '▒'),
            (actions.sell, Color::Red, '▓'),
        ];
        let whole = parts.iter().map(|(count, ..)| count).sum::<u64>();
        let width = u64::from(width);
        let mut before = 0;
        let mut end_before = 0;
        let spans = parts.map(|(count, colour, mark)| {
            before += count;
            let end = (before * width).checked_div(whole).unwrap_or(0);
            let cells = end - end_before;
            end_before = end;
            let mark = if self.colours { '█' } else { mark };
            Span::styled(std::iter::repeat_n(mark, cells as usize).collect::<String>(), self.colour(colour))
        });
        Line::from(spans.to_vec())
    }

    fn colour(&self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn badge(&self, colour: Color) -> Style {
        if self.colours {
            Style::new().fg(Color::Black).bg(colour).add_modifier(Modifier::BOLD)
        } else {
            Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED)
        }
    }

    fn dim(&self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }
}
