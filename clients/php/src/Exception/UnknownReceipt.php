<?php

declare(strict_types=1);

namespace MemoryWorker\Exception;

/**
 * Redis has lost data since the push, so it is unknown whether the job was applied. Push it again.
 */
class UnknownReceipt extends NotApplied
{
}
