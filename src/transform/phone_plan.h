/*
 * phone_plan.h
 *		What a run of dialled digits means in the numbering plans of the world.
 */
#ifndef SOPHIA_PHONE_PLAN_H
#define SOPHIA_PHONE_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PHONE_MAX_DIALLED 40 /* digits that anybody writes: a prefix to dial abroad, and a number */
#define PHONE_MAX_NATIONAL                                                                         \
	17 /* digits of a national number; Germany's are longer than E.164 allows */

/*
 * The numbering plan of a region; `iso` (ISO 3166-1 alpha-2) is empty for a code that belongs to no country.
 * A set of digit strings is a node of the automaton that phone_plan.c walks, 0 the empty set.
 */
typedef struct PhoneRegion
{
	char iso[3];
	char code[4];		  /* calling code */
	uint8_t typed;		  /* shares its code, and only numbers in use of the code are its own */
	uint8_t carrier_rest; /* digits that must follow when a carrier code is stripped, 0 = any */
	uint8_t local_length; /* digits of a number without its area code, */
	uint16_t local_first; /* the first digits of such a number as bits, */
	char local_area[5];	  /* and the area code to put before it */
	uint32_t idd;		  /* what is dialled before a calling code */
	uint32_t strip;		  /* what is dialled before a national number: trunk prefix, carrier code */
	uint32_t mobile;	  /* area codes that 15 follows in a mobile number (Argentina) */
	uint32_t general;	  /* national numbers of the plan */
	uint32_t lengths;	  /* lengths of national numbers, as bits */
} PhoneRegion;

/* A calling code, the first of its regions and the national numbers that it has in any of them. */
typedef struct PhoneCode
{
	char code[4];
	uint16_t main;
	uint32_t numbers;
} PhoneCode;

/* A number as E.164 writes it; the strings end with a zero byte. */
typedef struct PhoneNumber
{
	const char *code;
	char national[PHONE_MAX_DIALLED + 8];
} PhoneNumber;

/* The region of an ISO 3166-1 code in any case, or NULL. */
extern const PhoneRegion *sophia_phone_region(const char *iso, size_t len);

/*
 * Reads n digits (at most PHONE_MAX_DIALLED, a zero byte after them), dialled after a plus sign or else in the region
 * `home` (NULL: in none).  False when they are no number that its plan has.
 */
extern bool sophia_phone_plan_read(const char *digits, size_t n, bool plus, const PhoneRegion *home,
								   PhoneNumber *number);

#endif /* SOPHIA_PHONE_PLAN_H */
