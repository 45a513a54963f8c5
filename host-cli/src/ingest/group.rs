//! The consumer group, and what was removed from the stream before it was read.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use qsc_kernel::ensemble::Predict;
use redis::Value;

use super::consumer::{Consumer, Halt};
use super::{Surroundings, reply};
use crate::stream::{EventId, Trouble};

/// What XINFO STREAM tells.
pub(super) struct StreamInfo {
    pub(super) length: u64,
    /// Entries ever added.
    pub(super) added: u64,
    pub(super) newest: EventId,
    pub(super) first: Option<EventId>,
}

impl<P: Predict + Clone> Consumer<'_, P> {
    /// Makes sure that there is a group, and that it stands where it belongs; the last entry it has delivered.
    pub(super) fn attach(&mut self, around: &mut impl Surroundings<P>) -> Result<EventId, Halt> {
        self.ensure_types()?;
        let found = self.group()?;
        if found.is_none() {
            self.create_group(around)?;
        }
        let newest = self.features_info()?.newest;
        if newest < self.settled && newest != EventId::default() {
            self.begin_anew(newest, around)?;
        }
        // In a stream that never had an entry the group waits for what comes after the last one settled.
        let newest = newest.max(self.settled);
        let delivered = match found {
            Some(delivered) if delivered > newest => {
                // Nothing that comes before it gets there would be handed out.
                around.log(&format!(
                    "the group {} was set to {delivered}, beyond {newest}, the last entry of {}: it goes back there",
                    self.settings.group, self.keys.features
                ));
                self.set_group(newest)?;
                newest
            }
            Some(delivered) => delivered,
            None => self.settled,
        };
        if self.settled == EventId::default() && self.seen.is_none() && delivered > self.settled {
            around.log(&format!(
                "the group {} is older than the account in {}: what it has delivered up to {delivered} and is not \
                 pending is taken for settled",
                self.settings.group, self.keys.owner
            ));
            // Not taken so anew by the next one, who would find entries settled since that are pending now.
            self.settle_up_to(delivered)?;
        }
        self.poison = self.known_poison()?;
        self.met_to = self.stand(delivered, around)?;
        Ok(self.met_to)
    }

    /// Makes sure that the streams which are only added to are streams, where they exist: better told now than when the first
    /// event is decided.
    fn ensure_types(&mut self) -> Result<(), Halt> {
        for key in [&self.keys.intents, &self.keys.dead] {
            self.stream_info(key)?;
        }
        Ok(())
    }

    /// The last entry the group has delivered; `None` if there is no group, or no stream.
    fn group(&mut self) -> Result<Option<EventId>, Halt> {
        let mut groups = redis::cmd("XINFO");
        groups.arg("GROUPS").arg(&self.keys.features);
        let groups = match self.ask(&groups, reply::array) {
            Ok(groups) => groups,
            Err(Halt::Trouble(trouble)) if trouble.is_missing_key() => return Ok(None),
            Err(halt) => return Err(halt),
        };
        for group in groups {
            let fields = reply::fields(group).ok_or(Halt::Odd("XINFO GROUPS".to_owned()))?;
            let name = reply::field(&fields, "name").and_then(reply::text);
            if name.as_deref() == Some(&self.settings.group) {
                let delivered = reply::field(&fields, "last-delivered-id").and_then(reply::id);
                return delivered.map(Some).ok_or(Halt::Odd("XINFO GROUPS".to_owned()));
            }
        }
        Ok(None)
    }

    fn create_group(&mut self, around: &mut impl Surroundings<P>) -> Result<(), Halt> {
        let (group, features) = (&self.settings.group, &self.keys.features);
        let is_new = self.settled == EventId::default();
        if is_new {
            // Before there is a group: one without an account is taken for older than that.
            self.account(0)?;
        }
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(features).arg(group).arg(self.settled.to_string()).arg("MKSTREAM");
        self.fenced(&create)?;
        around.log(&if is_new {
            format!("created the group {group} at the beginning of {features}")
        } else {
            format!("the group {group} was gone: created again at {}, the last entry settled", self.settled)
        });
        Ok(())
    }

    /// A stream that ends before what is settled is another one. One that never had an entry may just stand in for the one
    /// that was moved away, and comes back.
    fn begin_anew(&mut self, newest: EventId, around: &mut impl Surroundings<P>) -> Result<(), Halt> {
        around.log(&format!(
            "{} ends at {newest}, before {} which is settled: it is another stream under the same name, read from its \
             beginning",
            self.keys.features, self.settled
        ));
        let mut forget = redis::cmd("HDEL");
        forget.arg(&self.keys.owner).arg("last").arg("seen");
        self.fenced(&forget)?;
        self.settled = EventId::default();
        self.account(0)?;
        self.set_group(self.settled)
    }

    /// Entries that killed their consumers too often.
    fn known_poison(&mut self) -> Result<BTreeSet<EventId>, Halt> {
        let mut names = redis::cmd("HKEYS");
        names.arg(&self.keys.owner);
        let names = self.ask(&names, reply::array)?.into_iter().filter_map(reply::text);
        Ok(names.filter_map(|name| name.strip_prefix("poison:")?.parse().ok()).collect())
    }

    /// Looks how many entries are not settled, and how many of them are delivered; also gives what it saw.
    pub(super) fn look(&mut self) -> Result<StreamInfo, Halt> {
        self.looked = Instant::now();
        let info = self.features_info()?;
        self.tally.lag = match self.unread(&info) {
            Some(unread) => unread,
            None => self.seen.map_or(0, |seen| info.added.saturating_sub(seen)),
        };
        let mut pending = redis::cmd("XPENDING");
        pending.arg(&self.keys.features).arg(&self.settings.group);
        self.tally.pending = self.ask(&pending, |summary| reply::number(reply::array(summary)?.first()?))?;
        Ok(info)
    }

    /// Entries that are left and not settled, where that is known exactly: when everything that is left was settled, or
    /// nothing that was settled is left.
    fn unread(&self, info: &StreamInfo) -> Option<u64> {
        if info.newest <= self.settled {
            Some(0)
        } else if info.first.is_none_or(|first| first > self.settled) {
            Some(info.length)
        } else {
            None
        }
    }

    /// Compares what was ever added with what was accounted for, where both are known exactly. Nothing may be in hand.
    pub(super) fn look_for_gaps(&mut self, around: &mut impl Surroundings<P>) -> Result<(), Halt> {
        let info = self.look()?;
        if info.newest < self.settled {
            return match info.newest == EventId::default() {
                true => Ok(()),
                false => Err(Halt::Astray(format!("{} begins anew", self.keys.features))),
            };
        }
        self.ensure_nothing_passed_over(&info)?;
        if self.tally.pending > 0 {
            // Somebody else's: if they are removed they get dead letters, and are accounted for then.
            return Ok(());
        }
        let Some(unread) = self.unread(&info) else { return Ok(()) };
        let gone = info.added.saturating_sub(unread);
        let Some(seen) = self.seen else {
            // The group is older than this account of it.
            return self.account(gone);
        };
        if gone == seen {
            return Ok(());
        }
        let accounted = if gone > seen {
            seen
        } else if info.newest > self.settled {
            // Of one stream no entry is accounted for before it is settled or gone.
            around.log(&format!(
                "{} has had {gone} entries that need no reading any more, and {seen} are accounted for: it is another \
                 stream under the same name, all of it after {}, the last entry settled",
                self.keys.features, self.settled
            ));
            0
        } else {
            // Everything in it is settled.
            gone
        };
        let lost = gone - accounted;
        if lost == 0 {
            return self.account(gone);
        }
        self.tally.lost += lost;
        let left = info
            .first
            .map_or_else(|| "none is left".to_owned(), |first| format!("the first one left is {first}"));
        around.log(&format!(
            "GAP: {lost} entries of {} were removed before they were decided (settled up to {}, {left}); they have no \
             intents. Trim the stream later, or give it more room",
            self.keys.features, self.settled
        ));
        self.account(gone)
    }

    /// With nothing in hand the group stands at the last entry delivered here, and all up to there is settled: what was passed
    /// over is noticed even where nothing comes after it.
    fn ensure_nothing_passed_over(&mut self, info: &StreamInfo) -> Result<(), Halt> {
        if info.newest <= self.settled || self.tally.pending > 0 {
            return Ok(());
        }
        if let Some(delivered) = self.group()?
            && delivered > self.met_to
        {
            return Err(Halt::Astray(format!(
                "the group was set forward to {delivered}, and {} was the last entry delivered here",
                self.met_to
            )));
        }
        match self.page(&format!("({}", self.settled), &self.met_to.to_string())?.first() {
            Some((id, _)) => {
                Err(Halt::Astray(format!("somebody else acknowledged the entry {id}, which is not settled")))
            }
            None => Ok(()),
        }
    }

    fn account(&mut self, seen: u64) -> Result<(), Halt> {
        let mut account = redis::cmd("HSET");
        account.arg(&self.keys.owner).arg("seen").arg(seen);
        self.fenced(&account)?;
        self.seen = Some(seen);
        Ok(())
    }

    /// Whether it is time to look again.
    pub(super) fn look_is_due(&self) -> bool {
        self.looked.elapsed() >= Duration::from_secs(1)
    }

    /// Of the feature stream, which exists as long as its group does.
    pub(super) fn features_info(&mut self) -> Result<StreamInfo, Halt> {
        let info = self.stream_info(&self.keys.features)?;
        info.ok_or_else(|| Halt::Astray(format!("the stream {} is gone", self.keys.features)))
    }

    /// `None` if there is no such key.
    pub(super) fn stream_info(&mut self, key: &str) -> Result<Option<StreamInfo>, Halt> {
        let mut info = redis::cmd("XINFO");
        info.arg("STREAM").arg(key);
        let answer = self.ask(&info, |answer| {
            let fields = reply::fields(answer)?;
            let number = |name| reply::number(&reply::field(&fields, name)?);
            Some(StreamInfo {
                length: number("length")?,
                added: number("entries-added")?,
                newest: reply::id(reply::field(&fields, "last-generated-id")?)?,
                first: match reply::field(&fields, "first-entry")? {
                    Value::Array(entry) => Some(reply::id(entry.into_iter().next()?)?),
                    _ => None,
                },
            })
        });
        match answer {
            Err(Halt::Trouble(trouble)) if trouble.is_missing_key() => Ok(None),
            // The server does not say which key it means.
            Err(Halt::Trouble(Trouble::Refused { code, .. })) if code == "WRONGTYPE" => {
                Err(Halt::Trouble(Trouble::Refused { code, message: format!("{key} is no stream") }))
            }
            answer => answer.map(Some),
        }
    }
}
