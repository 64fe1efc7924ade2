package foggen

// What Python's \w, \s and $ mean; Java's and Android's own differ from each other.
private const val WORD = "[\\p{L}\\p{N}_]"
private const val NOT_WORD = "[^\\p{L}\\p{N}_]"
private val ALONE = Regex("$NOT_WORD*([A-Z])\\s*(?:[).:,*\\n]|\\z)")

// A letter by itself; `A` before a word in lower case is an article.
private val BY_ITSELF = Regex("(?<![\\p{L}\\p{N}_'\u2019])(?!A\\s+[a-z])([A-Z])(?![\\p{L}\\p{N}_'\u2019])")

// At a line's start, or after a space so that options may follow each other on one line.
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
 * `B`, `B) Paris` and `The answer is B.` all give B; where the options are known, so does any text
 * in which no other letter of theirs stands by itself, such as `It is B`.
 *
 * @param options the letters there are, if that is known: no other one is returned
 */
fun parseChoice(answer: String, options: Set<String> = emptySet()): String? {
    val alone = ALONE.find(answer)?.takeIf { it.range.first == 0 }
    val stated = STATED.flatMap { it.findAll(answer).toList().asReversed() }
    val found = (listOfNotNull(alone) + stated).map { it.groupValues[1] }
    val named = BY_ITSELF.findAll(answer).map { it.groupValues[1] }.filter { it in options }.toSet()
    return (found + listOfNotNull(named.singleOrNull())).firstOrNull { options.isEmpty() || it in options }
}

/**
 * Returns the option letters of a question, e.g. A, B, C of lines such as `A) Paris`.
 *
 * They follow each other in the alphabet, mostly from A, and are at least two: an initial, as of
 * E. coli, or a unit, as in 1.1 V, is none.
 */
fun questionOptions(question: String): Set<String> {
    val found = OPTION.findAll(question).map { it.groupValues[1].single() }.toList()
    val fromA = run(found, 'A')
    val runs = if (fromA.size > 1) listOf(fromA) else found.map { run(found, it) }
    val longest = runs.maxByOrNull { it.size } ?: emptyList()
    return if (longest.size > 1) longest.map(Char::toString).toSet() else emptySet()
}

/** Returns the letters that follow each other in the alphabet, from the first given. */
private fun run(letters: List<Char>, first: Char): List<Char> {
    val run = mutableListOf<Char>()
    for (letter in letters) if (letter == first + run.size) run += letter
    return run
}
