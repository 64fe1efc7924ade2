package foggen

// What Python's \w, \s and $ mean; Java's and Android's own differ from each other.
private const val WORD = "[\\p{L}\\p{N}_]"
private const val NOT_WORD = "[^\\p{L}\\p{N}_]"
private val ALONE = Regex("$NOT_WORD*([A-Z])\\s*(?:[).:,*\\n]|\\z)")
private val OPTION = Regex("(?:^|\\s)\\(?([A-Z])[).:](?=\\s)")

// From the surest to the vaguest; of several places, the last is what the text ends with.
private val STATED = listOf(
    Regex("\\\\boxed\\{(?:\\\\text\\{)?$NOT_WORD?([A-Z])$NOT_WORD?\\}"),
    Regex("(?i:answer(?:\\s+is)?)\\s*:?\\s*$NOT_WORD*([A-Z])(?!$WORD)"),
    Regex("(?i:(?:option|choice)(?:\\s+is)?)\\s*:?\\s*$NOT_WORD*([A-Z])(?!$WORD)"),
)

/**
 * Returns the option letter an answer starts with or states; null when it has none.
 *
 * @param options the letters there are, if that is known: no other one is returned
 */
fun parseChoice(answer: String, options: Set<String> = emptySet()): String? {
    val alone = ALONE.find(answer)?.takeIf { it.range.first == 0 }
    val stated = STATED.flatMap { it.findAll(answer).toList().asReversed() }
    return (listOfNotNull(alone) + stated).map { it.groupValues[1] }.firstOrNull { options.isEmpty() || it in options }
}

/** Returns the option letters of a question, e.g. A, B, C of lines such as `A) Paris`. */
fun questionOptions(question: String): Set<String> = OPTION.findAll(question).map { it.groupValues[1] }.toSet()
