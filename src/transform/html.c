/*
 * html.c
 *		The text of an HTML document or fragment: see normalize.h.  Pure: no server call.
 *
 * One pass, no tree: e-mail bodies are rarely well-formed, and only their words matter.
 *   - Tags, comments and declarations go; so does what stands between <script>, <style>, <title> and
 *     <template> tags and their ends.
 *   - A block element and <br> end the line; a table cell ends a word; empty lines and white space at the ends
 *     of lines go; other white space becomes one space, except for line ends inside <pre>.
 *   - Character references are decoded.  One that is unknown stays as written.
 *   - A "<" that starts no tag, such as in "a < b" or "<ann@example.com>", is text.
 * The result never has more bytes than the input.
 */
#include "transform/html.h"
#include "transform/html_entities.h"
#include "transform/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_TAG_NAME 15

typedef enum Gap
{
	GAP_NONE,
	GAP_SPACE,
	GAP_LINE
} Gap;

typedef struct Html
{
	const char *at;
	const char *end;
	ByteBuffer *out;
	Gap gap;	   /* what has to stand between the text so far and the next text */
	size_t before; /* size of out at the start */
	int pre;	   /* open <pre> elements */
	bool failed;   /* no memory */
} Html;

static void
widen_gap(Html *html, Gap gap)
{
	if (gap > html->gap)
		html->gap = gap;
}

static void
emit(Html *html, uint32_t c)
{
	bool fits = true;

	if (sophia_unicode_is_space(c) || c < ' ' || (c >= 0x7F && c < 0xA0))
	{
		widen_gap(html, c == '\n' && html->pre > 0 ? GAP_LINE : GAP_SPACE);
		return;
	}
	if (sophia_unicode_is_invisible(c))
		return;
	if (html->gap != GAP_NONE && buffer_size(html->out) > html->before)
		fits = sophia_buffer_append(html->out, html->gap == GAP_LINE ? "\n" : " ", 1);
	html->gap = GAP_NONE;
	html->failed = !(fits && sophia_utf8_append(html->out, c)) || html->failed;
}

static bool
is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool
in_list(const char *name, const char *const *list)
{
	for (; *list != NULL; list++)
		if (strcasecmp(name, *list) == 0)
			return true;
	return false;
}

/* The byte after the tag that starts at `at`, quoted attribute values being skipped; the end when it is cut. */
static const char *
after_tag(const char *at, const char *end)
{
	char quote = '\0';

	for (; at < end; at++)
	{
		if (quote != '\0')
			quote = *at == quote ? '\0' : quote;
		else if ((*at == '"' || *at == '\'') && at[-1] == '=')
			quote = *at;
		else if (*at == '>')
			return at + 1;
	}
	return end;
}

/* The first place at or after `at` where the bytes stand, or NULL. */
static const char *
find(const char *at, const char *end, const char *bytes)
{
	size_t n = strlen(bytes);

	for (; (size_t) (end - at) >= n; at++)
		if (strncasecmp(at, bytes, n) == 0)
			return at;
	return NULL;
}

/* Moves past the end tag of an element whose content is no text. */
static void
skip_element(Html *html, const char *name)
{
	char end_tag[MAX_TAG_NAME + 3] = "</";
	const char *found;

	memcpy(end_tag + 2, name, strlen(name) + 1);
	found = find(html->at, html->end, end_tag);
	html->at = found == NULL ? html->end : after_tag(found + 1, html->end);
}

static void
apply_tag(Html *html, const char *name, bool closing)
{
	static const char *const silent[] = {"script", "style", "title", "template", NULL};
	static const char *const cell[] = {"td", "th", "img", "input", "button", "option", NULL};
	static const char *const block[] = {
		"address", "article",  "aside",		 "blockquote", "body",	  "br",		"caption",
		"center",  "dd",	   "details",	 "dialog",	   "dir",	  "div",	"dl",
		"dt",	   "fieldset", "figcaption", "figure",	   "footer",  "form",	"h1",
		"h2",	   "h3",	   "h4",		 "h5",		   "h6",	  "head",	"header",
		"hgroup",  "hr",	   "html",		 "legend",	   "li",	  "main",	"menu",
		"nav",	   "ol",	   "p",			 "pre",		   "section", "select", "summary",
		"table",   "tbody",	   "tfoot",		 "thead",	   "tr",	  "ul",		NULL};

	if (in_list(name, silent) && !closing)
		skip_element(html, name);
	else if (in_list(name, cell))
		widen_gap(html, GAP_SPACE);
	else if (in_list(name, block))
		widen_gap(html, GAP_LINE);
	if (strcasecmp(name, "pre") == 0)
		html->pre += !closing ? 1 : html->pre > 0 ? -1 : 0;
}

/* Reads a tag, comment or declaration at html->at; false (and nothing is read) when the "<" is text. */
static bool
read_markup(Html *html)
{
	const char *p = html->at + 1;
	const char *name_end;
	char name[MAX_TAG_NAME + 1] = "";
	bool closing = false;

	if (html->end - p >= 3 && memcmp(p, "!--", 3) == 0)
	{
		const char *close = find(p + 1, html->end, "-->");

		html->at = close == NULL ? html->end : close + 3;
		return true;
	}
	if (p < html->end && (*p == '!' || *p == '?'))
	{
		html->at = after_tag(p + 1, html->end);
		return true;
	}
	if (p < html->end && *p == '/')
	{
		closing = true;
		p++;
	}
	for (name_end = p;
		 name_end < html->end && (is_letter(*name_end) || *name_end == ':' ||
								  (name_end > p && (is_digit(*name_end) || *name_end == '-')));)
		name_end++;
	if (name_end == p || name_end == html->end ||
		!(is_blank(*name_end) || *name_end == '/' || *name_end == '>'))
		return false;
	if (name_end - p <= MAX_TAG_NAME)
		memcpy(name, p, name_end - p);
	html->at = after_tag(name_end, html->end);
	apply_tag(html, name, closing);
	return true;
}

/* What a numeric reference means: Windows-1252 where it names a control code, as browsers read it. */
static uint32_t
numeric_meaning(uint32_t c)
{
	static const uint16_t windows_1252[32] = {
		0x20AC, 0x81,	0x201A, 0x192,	0x201E, 0x2026, 0x2020, 0x2021, 0x2C6,	0x2030, 0x160,
		0x2039, 0x152,	0x8D,	0x17D,	0x8F,	0x90,	0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
		0x2013, 0x2014, 0x2DC,	0x2122, 0x161,	0x203A, 0x153,	0x9D,	0x17E,	0x178};

	if (c >= 0x80 && c < 0xA0)
		return windows_1252[c - 0x80];
	if (c == 0 || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
		return UNICODE_REPLACEMENT;
	return c;
}

static int
digit_of(char c, uint32_t base)
{
	if (is_digit(c))
		return c - '0';
	if (base == 16 && is_letter(c) && (c | 0x20) <= 'f')
		return (c | 0x20) - 'a' + 10;
	return -1;
}

/* Reads "&#65;" or "&#x41;"; the semicolon may be missing. */
static bool
read_numeric_reference(Html *html)
{
	const char *p = html->at + 2;
	uint32_t base = p < html->end && (*p | 0x20) == 'x' ? 16 : 10;
	uint32_t c = 0;
	const char *digits;

	digits = p += base == 16;
	for (; p < html->end && digit_of(*p, base) >= 0; p++)
		c = c > 0x10FFFF ? c : c * base + (uint32_t) digit_of(*p, base);
	if (p == digits)
		return false;
	html->at = p < html->end && *p == ';' ? p + 1 : p;
	emit(html, numeric_meaning(c));
	return true;
}

static int
compare_entity(const void *name, const void *entity)
{
	return strcmp(name, ((const HtmlEntity *) entity)->name);
}

/* Reads a character reference at html->at; false (and nothing is read) when the "&" is text. */
static bool
read_reference(Html *html)
{
	const char *p = html->at + 1;
	char name[HTML_ENTITY_MAX_NAME + 1] = "";
	size_t n = 0;
	const HtmlEntity *entity;

	if (p < html->end && *p == '#')
		return read_numeric_reference(html);
	while (p + n < html->end && n < HTML_ENTITY_MAX_NAME && (is_letter(p[n]) || is_digit(p[n])))
		n++;
	if (p + n == html->end || p[n] != ';')
		return false;
	memcpy(name, p, n);
	entity = bsearch(name, html_entities, sizeof(html_entities) / sizeof(html_entities[0]),
					 sizeof(html_entities[0]), compare_entity);
	if (entity == NULL)
		return false;
	html->at = p + n + 1;
	emit(html, entity->code_point);
	return true;
}

bool
sophia_strip_html(const char *in, size_t len, ByteBuffer *out)
{
	Html html = {.at = in, .end = in + len, .out = out, .before = buffer_size(out)};

	while (html.at < html.end && !html.failed)
	{
		if ((*html.at == '<' && read_markup(&html)) || (*html.at == '&' && read_reference(&html)))
			continue;
		emit(&html, sophia_utf8_next(&html.at, html.end));
	}
	if (!html.failed && buffer_size(out) > html.before)
		return true;
	buffer_truncate(out, html.before);
	return false;
}
