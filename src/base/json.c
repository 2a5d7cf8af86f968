/*
 * json.c
 *		Documents as trees: looking up and merging.  See json.h.  Pure: no server call.
 */
#include "base/json.h"

#include <string.h>

int
sophia_json_compare_names(const char *a, uint32_t a_length, const char *b, uint32_t b_length)
{
	if (a_length != b_length)
		return a_length < b_length ? -1 : 1;
	return memcmp(a, b, a_length);
}

static int
compare_members(const void *a, const void *b)
{
	const JsonMember *x = a;
	const JsonMember *y = b;

	return sophia_json_compare_names(x->name, x->length, y->name, y->length);
}

/* Merge sort down to short runs, which are sorted by insertion. */
void
sophia_json_sort_members(JsonMember *members, size_t n, JsonMember *scratch)
{
	size_t half = n / 2;
	size_t left = 0;
	size_t right = half;

	if (n <= 12)
	{
		for (size_t i = 1; i < n; i++)
		{
			JsonMember moving = members[i];
			size_t j = i;

			for (; j > 0 && compare_members(&members[j - 1], &moving) > 0; j--)
				members[j] = members[j - 1];
			members[j] = moving;
		}
		return;
	}
	sophia_json_sort_members(members, half, scratch);
	sophia_json_sort_members(members + half, n - half, scratch);
	if (compare_members(&members[half - 1], &members[half]) <= 0)
		return;
	memcpy(scratch, members, half * sizeof(JsonMember));
	for (size_t out = 0; left < half; out++)
	{
		if (right < n && compare_members(&members[right], &scratch[left]) < 0)
			members[out] = members[right++];
		else
			members[out] = scratch[left++];
	}
}

const JsonNode *
sophia_json_member(const JsonNode *node, const char *name, uint32_t length)
{
	uint32_t low = 0;
	uint32_t high;

	if (node->kind != JSON_OBJECT)
		return NULL;
	high = node->length;
	while (low < high)
	{
		uint32_t middle = low + (high - low) / 2;
		const JsonMember *member = &node->u.members[middle];
		int order = sophia_json_compare_names(member->name, member->length, name, length);

		if (order == 0)
			return &member->value;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

/* One step of a pointer: ~1 stands for /, ~0 for ~ (RFC 6901). */
static char *
unescape_step(Arena *arena, const char *from, const char *to, uint32_t *length)
{
	char *name = sophia_arena_alloc(arena, to - from + 1);
	char *out = name;

	if (name == NULL)
		return NULL;
	for (const char *p = from; p < to; p++)
	{
		if (*p == '~' && p + 1 < to && (p[1] == '0' || p[1] == '1'))
			*out++ = *++p == '0' ? '~' : '/';
		else
			*out++ = *p;
	}
	*out = '\0';
	*length = out - name;
	return name;
}

bool
sophia_json_pointer(JsonPointer *pointer, Arena *arena, const char *text)
{
	pointer->steps = 0;
	while (*text != '\0')
	{
		const char *to;

		if (*text++ != '/' ||
			pointer->steps == (int) (sizeof(pointer->step) / sizeof(pointer->step[0])))
			return false;
		to = text + strcspn(text, "/");
		pointer->step[pointer->steps].name =
			unescape_step(arena, text, to, &pointer->step[pointer->steps].length);
		if (pointer->step[pointer->steps].name == NULL)
			return false;
		pointer->steps++;
		text = to;
	}
	return true;
}

const JsonNode *
sophia_json_find(const JsonNode *node, const JsonPointer *pointer)
{
	for (int i = 0; node != NULL && i < pointer->steps; i++)
		node = sophia_json_member(node, pointer->step[i].name, pointer->step[i].length);
	return node;
}

/* What becomes of a member where a plan says so; NULL: it is replaced. */
static const JsonNode *
plan_of_member(const JsonNode *plan, const JsonMember *member)
{
	const JsonNode *members = sophia_json_member(plan, "members", 7);
	const JsonNode *own =
		members != NULL ? sophia_json_member(members, member->name, member->length) : NULL;

	return own != NULL ? own : sophia_json_member(plan, "others", 6);
}

/* A member that both objects have. */
static bool
merge_members(JsonNode *result, Arena *arena, const JsonMember *left, const JsonMember *right,
			  const JsonNode *plan)
{
	const JsonNode *own = plan != NULL ? plan_of_member(plan, right) : NULL;

	if (plan != NULL && (own == NULL || own->kind != JSON_OBJECT))
	{
		*result = right->value;
		return true;
	}
	return sophia_json_merge(result, arena, &left->value, &right->value, NULL, own);
}

static bool
merge_objects(JsonNode *result, Arena *arena, const JsonNode *left, const JsonNode *right,
			  const char *whole, const JsonNode *plan)
{
	const JsonMember *l = left->u.members;
	const JsonMember *r = right->u.members;
	const JsonMember *l_end = l + left->length;
	const JsonMember *r_end = r + right->length;
	size_t whole_length = whole != NULL ? strlen(whole) : 0;
	JsonMember *members =
		sophia_arena_alloc(arena, ((size_t) left->length + right->length) * sizeof(JsonMember));
	JsonMember *out = members;

	if (members == NULL)
		return false;
	while (l < l_end || r < r_end)
	{
		int order = l == l_end ? 1 : r == r_end ? -1 : compare_members(l, r);

		if (order < 0)
			*out++ = *l++;
		else if (order > 0)
			*out++ = *r++;
		else
		{
			*out = *r;
			if (whole == NULL || r->length != whole_length ||
				memcmp(r->name, whole, whole_length) != 0)
				if (!merge_members(&out->value, arena, l, r, plan))
					return false;
			out++;
			l++;
			r++;
		}
	}
	result->kind = JSON_OBJECT;
	result->length = out - members;
	result->u.members = members;
	return true;
}

bool
sophia_json_merge(JsonNode *result, Arena *arena, const JsonNode *left, const JsonNode *right,
				  const char *whole, const JsonNode *plan)
{
	if (left->kind == JSON_OBJECT && right->kind == JSON_OBJECT)
		return merge_objects(result, arena, left, right, whole, plan);
	*result = *right;
	return true;
}

bool
sophia_json_replace_member(JsonNode *result, Arena *arena, const JsonNode *object, const char *name,
						   const JsonNode *from)
{
	uint32_t length = strlen(name);
	const JsonNode *value = sophia_json_member(from, name, length);
	JsonMember *member;
	JsonNode single = {.kind = JSON_OBJECT, .length = 1};

	if (value == NULL)
	{
		*result = *object;
		return true;
	}
	member = sophia_arena_alloc(arena, sizeof(JsonMember));
	if (member == NULL)
		return false;
	member->name = name;
	member->length = length;
	member->value = *value;
	single.u.members = member;
	return sophia_json_merge(result, arena, object, &single, name, NULL);
}
