<?php

declare(strict_types=1);

namespace MemoryWorker;

use MemoryWorker\Contract\EntryId;
use MemoryWorker\Contract\Text;
use MemoryWorker\Exception\InvalidJob;

/**
 * Identifies a pushed job: the partition, and the id of its entry in the partition's stream.
 *
 * To keep a receipt beyond the request, store ``(string) $receipt`` and read it with `Receipt::parse`.
 */
final class Receipt implements \Stringable, \JsonSerializable
{
    public function __construct(public readonly int $partition, public readonly string $entryId)
    {
    }

    /**
     * Return the receipt that ``$text`` (``17/1732000000000-0``) stands for.
     *
     * @throws InvalidJob
     */
    public static function parse(string $text, string $field = 'receipt'): self
    {
        if (preg_match('~^([0-9]{1,5})/(.*)$~Ds', $text, $match) !== 1 || !EntryId::isValid($match[2])) {
            $shown = Text::repr(Text::first($text, 80));
            throw new InvalidJob($field, "$shown is not of the form PARTITION/MILLISECONDS-SEQUENCE");
        }

        return new self((int) $match[1], $match[2]);
    }

    public function toString(): string
    {
        return "$this->partition/$this->entryId";
    }

    public function __toString(): string
    {
        return $this->toString();
    }

    public function jsonSerialize(): string
    {
        return $this->toString();
    }
}
