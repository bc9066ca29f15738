//! `nsqd.dat`: which topics and channels an nsqd has (storage, section 6).

use serde::de::{Deserialize, Deserializer, MapAccess};

use crate::go_json::{GoStruct, go_struct, set, skip, try_from_go_json};

/// The whole file. Names are as they stand there: nsqd skips those that are not valid.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MetadataDocument {
    /// Every topic that is not ephemeral, in any order.
    pub topics: Vec<TopicMetadata>,
    /// Version of the nsqd that wrote the file.
    pub version: String,
}

/// A topic.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TopicMetadata {
    /// Its name.
    pub name: String,
    /// Whether messages are kept from the channels.
    pub paused: bool,
    /// Every channel that is not ephemeral, in any order.
    pub channels: Vec<ChannelMetadata>,
}

/// A channel.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ChannelMetadata {
    /// Its name.
    pub name: String,
    /// Whether deliveries are stopped.
    pub paused: bool,
}

impl MetadataDocument {
    /// Reads the file as nsqd does: unknown fields are ignored, a missing one or `null` is empty.
    ///
    /// # Errors
    ///
    /// What is wrong with the JSON, and in which line and column; nsqd does not start either.
    pub fn from_json(json: &[u8]) -> serde_json::Result<Self> {
        try_from_go_json(json)
    }
}

impl GoStruct for MetadataDocument {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "topics" => set(&mut self.topics, map),
            "version" => set(&mut self.version, map),
            _ => skip(map),
        }
    }
}

impl GoStruct for TopicMetadata {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "name" => set(&mut self.name, map),
            "paused" => set(&mut self.paused, map),
            "channels" => set(&mut self.channels, map),
            _ => skip(map),
        }
    }
}

impl GoStruct for ChannelMetadata {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "name" => set(&mut self.name, map),
            "paused" => set(&mut self.paused, map),
            _ => skip(map),
        }
    }
}

impl<'de> Deserialize<'de> for TopicMetadata {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        go_struct(input)
    }
}

impl<'de> Deserialize<'de> for ChannelMetadata {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        go_struct(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nsqd_writes_is_read() {
        let json =
            br#"{"topics":[{"name":"t","paused":false,"channels":[{"name":"c","paused":true}]},
            {"name":"alone","paused":true,"channels":null}],"version":"1.3.0"}"#;
        let document = MetadataDocument::from_json(json).unwrap();
        assert_eq!(document.version, "1.3.0");
        let [topic, alone] = &document.topics[..] else { panic!("{document:?}") };
        assert_eq!((topic.name.as_str(), topic.paused), ("t", false));
        assert_eq!(topic.channels, [ChannelMetadata { name: "c".to_owned(), paused: true }]);
        assert_eq!((alone.name.as_str(), alone.paused, alone.channels.len()), ("alone", true, 0));
    }

    #[test]
    fn what_go_ignores_is_ignored_and_what_it_refuses_is_refused_with_its_place() {
        let empty = [
            &br#"{"topics":null,"version":"1.3.0"}"#[..],
            br#"{"Topics":[],"VERSION":"1.3.0","topic_counts":{"t":[1,{}]}}"#,
        ];
        for json in empty {
            let document = MetadataDocument::from_json(json).unwrap();
            assert_eq!((document.topics.len(), document.version.as_str()), (0, "1.3.0"));
        }
        assert_eq!(MetadataDocument::from_json(b"null").unwrap(), MetadataDocument::default());
        let refused = [
            &b""[..],
            b"{not json",
            b"[]",
            br#"{"topics":{}}"#,
            br#"{"topics":[{"name":1}]}"#,
            br#"{"topics":[]} and more"#,
        ];
        for json in refused {
            let error = MetadataDocument::from_json(json).unwrap_err().to_string();
            assert!(error.contains("line 1 column"), "{error}");
        }
    }
}
