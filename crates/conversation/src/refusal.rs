//! Why a conversation refuses something, in words for the person who asked.
//!
//! *Invariant*: a refusal tells nothing about events that the person may not see.

/// The bounds of everything that grows by what people send.
pub mod bounds {
    /// Participants at one time.
    pub const MEMBERS: usize = 10_000;
    /// Participants ever: those who left are remembered, for they still see what they saw.
    pub const PARTICIPANTS_EVER: usize = 50_000;
    /// How often one person may be added.
    pub const STAYS: usize = 1_000;
    /// Characters of a subject.
    pub const SUBJECT_CHARS: usize = 200;
    /// Bytes of a reaction.
    pub const EMOJI_BYTES: usize = 32;
    /// Bytes of a text, a caption or an opaque body.
    pub const TEXT_BYTES: usize = 16 * 1024 * 1024;
    /// Bytes of the header lines kept with an opaque body.
    pub const HEADER_BYTES: usize = 64 * 1024;
    /// Bytes of a content type or a file's name.
    pub const NAME_BYTES: usize = 1_024;
}

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The author is not in the conversation.
    #[error("you are not in this conversation")]
    NotAMember,
    /// The role, or the kind of conversation, does not allow it.
    #[error("your role in this conversation does not allow this")]
    NotAllowed,
    /// A conversation of one person with himself.
    #[error("a conversation with yourself is not possible")]
    ToOneself,
    /// Who was to be added is there already.
    #[error("this person is in the conversation already")]
    AlreadyAMember,
    /// Who was to be changed or removed is not there.
    #[error("this person is not in the conversation")]
    NoSuchMember,
    /// The event referred to does not exist for the author.
    #[error("there is no such message in this conversation")]
    UnknownTarget,
    /// The event referred to is no message.
    #[error("this is not a message")]
    NotAMessage,
    /// The event referred to was taken back.
    #[error("this message was taken back")]
    TakenBack,
    /// Only the author may do this to a message.
    #[error("this message is somebody else's")]
    NotYours,
    /// A message that has no wording.
    #[error("this message has no text that could be edited")]
    NotEditable,
    /// The text, caption or body is too large.
    #[error("the message is larger than {} bytes", bounds::TEXT_BYTES)]
    TooLarge,
    /// A content type, file name or header lines are too long.
    #[error("the content type, file name or header lines are too long")]
    HeadersTooLong,
    /// The subject is too long or holds control characters.
    #[error(
        "a subject has at most {} characters, none of them control characters",
        bounds::SUBJECT_CHARS
    )]
    BadSubject,
    /// The reaction is empty, too long or no symbol.
    #[error("a reaction is one symbol of at most {} bytes", bounds::EMOJI_BYTES)]
    BadEmoji,
    /// There are as many members as there may be.
    #[error("a conversation has at most {} members", bounds::MEMBERS)]
    TooManyMembers,
    /// So many people have come and gone that no other can be added.
    #[error("too many people have been in this conversation; begin another one")]
    TooManyEver,
    /// One person was added too often.
    #[error("this person was added too often")]
    AddedTooOften,
    /// The two of a pair cannot leave it, nor each other.
    #[error("a conversation of two people cannot be left")]
    PairOfTwo,
    /// The two of a pair are equal.
    #[error("the two people whose conversation this is are both owners")]
    PairIsEqual,
    /// The last owner would be gone, and nobody could take over.
    #[error("name another owner first: only guests would remain")]
    NoSuccessor,
    /// The last owner would lose that role.
    #[error("name another owner first: this is the only one")]
    LastOwner,
    /// A receipt for what the member cannot see.
    #[error("there is no such message for this person")]
    ReceiptForUnseen,
    /// The conversation has had as many events as can be counted.
    #[error("this conversation is full; begin another one")]
    Full,
}
