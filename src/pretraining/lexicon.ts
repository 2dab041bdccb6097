// The words of the generated English and what is true of them. Data only; how they are put together is in template.ts.
// A row is a word and its facets: `{x:animals}` chooses one, `{x.sound}` reads a facet of the same one.

export type Entry = Readonly<Record<string, string>> & { readonly word: string };

/** Rows of cells separated by `;`, facets named by the header. A missing last cell is an error, so that no text says "undefined". */
function table(header: string, rows: string): Entry[] {
  const names = header.split(';').map(cell => cell.trim());
  return rows
    .trim()
    .split('\n')
    .map(line => {
      const cells = line.split(';').map(cell => cell.trim());
      if (cells.length !== names.length) throw new Error(`lexicon row does not fit "${header}": ${line}`);
      return Object.fromEntries(names.map((name, i) => [name, cells[i]])) as Entry;
    });
}

/** Plain words, separated by commas. */
function words(list: string): Entry[] {
  return list
    .split(',')
    .map(word => word.trim())
    .filter(word => word !== '')
    .map(word => ({ word }));
}

function people(names: string, facets: Omit<Entry, 'word'>): Entry[] {
  return words(names).map(({ word }) => ({ word, ...facets }) as Entry);
}

const she = {
  he: 'she',
  him: 'her',
  his: 'her',
  boy: 'girl',
  man: 'woman',
  himself: 'herself',
  son: 'daughter',
};
const he = { he: 'he', him: 'him', his: 'his', boy: 'boy', man: 'man', himself: 'himself', son: 'son' };

/** Verb forms. Regular ones need only the base. */
function verb(row: string): Entry {
  const [word, past, participle] = row.split('/').map(cell => cell.trim()) as [string, string?, string?];
  const third = /(s|sh|ch|x|o)$/.test(word)
    ? `${word}es`
    : /[^aeiou]y$/.test(word)
      ? word.replace(/y$/, 'ies')
      : `${word}s`;
  const regular = /e$/.test(word)
    ? `${word}d`
    : /[^aeiou]y$/.test(word)
      ? word.replace(/y$/, 'ied')
      : `${word}ed`;
  const doubled = word === 'begin' || /^[^aeiou]*[aeiou][bdgklmnprt]$/.test(word);
  const ing = /[^aeiouy]e$/.test(word)
    ? word.replace(/e$/, 'ing')
    : `${word}${doubled ? word.at(-1) : ''}ing`;
  return { word, third, past: past || regular, participle: participle || past || regular, ing };
}
const verbs = (rows: string): Entry[] => rows.split(',').map(row => verb(row.trim()));

const lexicon = {
  women: people(
    'Anna, Mary, Lucy, Emma, Sara, Nina, Rosa, Clara, Ella, Jane, Kate, Lily, Maya, Olga, Paula, Ruth, Tina, Vera, Zoe, Alice, Grace, Helen, Ivy, Julia, Laura, Molly, Nora, Sofia, Amy, Eve',
    she,
  ),
  men: people(
    'Tom, Ben, Max, Paul, Jack, Leo, Sam, Peter, Oscar, David, Adam, Carl, Dan, Eric, Frank, George, Henry, Ian, John, Karl, Luke, Mark, Nick, Omar, Ralph, Simon, Tim, Victor, Will, Hugo',
    he,
  ),
  relatives: [
    ...people('mother, sister, aunt, grandmother, cousin, neighbor, friend', she),
    ...people('father, brother, uncle, grandfather, friend, neighbor, cousin', he),
  ],
  workers: table(
    'word; plural; work; place',
    `
    baker; bakers; bakes bread and cakes; bakery
    farmer; farmers; grows food and keeps animals; farm
    doctor; doctors; helps sick people; hospital
    nurse; nurses; takes care of sick people; hospital
    teacher; teachers; teaches children; school
    driver; drivers; drives a bus; street
    pilot; pilots; flies planes; airport
    cook; cooks; makes meals; kitchen
    painter; painters; paints walls and pictures; studio
    singer; singers; sings songs; theater
    builder; builders; builds houses; city
    gardener; gardeners; takes care of plants; garden
    fisherman; fishermen; catches fish; sea
    writer; writers; writes books; library
    tailor; tailors; makes clothes; shop
    carpenter; carpenters; makes things of wood; workshop
    postman; postmen; brings letters and parcels; town
    clerk; clerks; works at a desk; office
    waiter; waiters; brings food to the guests; restaurant
    dentist; dentists; looks after teeth; city
    mechanic; mechanics; repairs cars; garage
    librarian; librarians; lends books; library
    guard; guards; keeps a building safe; bank
    firefighter; firefighters; puts out fires; city
    sailor; sailors; works on a ship; harbor
    plumber; plumbers; repairs pipes; house
    judge; judges; decides who is right; court
    actor; actors; plays in films; theater
    engineer; engineers; plans machines and bridges; office
    shepherd; shepherds; looks after sheep; hills`,
  ),
  animals: table(
    'word; plural; sound; food; home; kind; look; can',
    `
    cat; cats; meows; fish and mice; house; pet; soft fur and a long tail; climb trees
    dog; dogs; barks; meat; house; pet; four legs and a good nose; run fast
    cow; cows; moos; grass; farm; farm animal; big eyes and two horns; give milk
    horse; horses; neighs; grass and hay; stable; farm animal; strong legs and a long tail; carry people
    sheep; sheep; bleats; grass; field; farm animal; white wool; give wool
    goat; goats; bleats; leaves and grass; farm; farm animal; two horns and a short beard; climb rocks
    pig; pigs; grunts; corn and roots; farm; farm animal; a round nose and a curly tail; find roots
    hen; hens; clucks; seeds; farm; bird; brown feathers; lay eggs
    duck; ducks; quacks; water plants; pond; bird; a flat beak; swim and fly
    goose; geese; honks; grass; lake; bird; a long neck; swim and fly
    owl; owls; hoots; mice; forest; bird; large round eyes; see in the dark
    eagle; eagles; screams; small animals; mountains; bird; wide wings; fly very high
    sparrow; sparrows; chirps; seeds; garden; bird; small brown wings; hop and fly
    crow; crows; caws; nuts and seeds; field; bird; black feathers; solve problems
    parrot; parrots; talks; fruit and nuts; jungle; bird; green and red feathers; copy words
    penguin; penguins; calls; fish; ice; bird; black and white feathers; swim well
    frog; frogs; croaks; insects; pond; small animal; wet green skin; jump far
    snake; snakes; hisses; mice and eggs; desert; wild animal; no legs; move without a sound
    mouse; mice; squeaks; cheese and seeds; hole; small animal; small ears and a thin tail; hide anywhere
    rat; rats; squeaks; almost anything; cellar; small animal; grey fur; climb well
    rabbit; rabbits; squeaks; carrots and grass; hole; small animal; long ears; hop fast
    squirrel; squirrels; chatters; nuts; tree; small animal; a bushy tail; jump from tree to tree
    fox; foxes; barks; mice and birds; forest; wild animal; red fur and a bushy tail; think of clever tricks
    wolf; wolves; howls; meat; forest; wild animal; grey fur and sharp teeth; hunt in groups
    bear; bears; growls; honey and fish; forest; wild animal; thick brown fur; sleep all winter
    lion; lions; roars; meat; grassland; wild animal; golden fur; run and hunt
    tiger; tigers; roars; meat; jungle; wild animal; black stripes; swim across rivers
    elephant; elephants; trumpets; leaves and fruit; grassland; wild animal; a long nose and big ears; lift heavy trees
    monkey; monkeys; screams; fruit; jungle; wild animal; long arms; swing from trees
    giraffe; giraffes; hums; leaves; grassland; wild animal; a very long neck; reach high leaves
    camel; camels; groans; dry plants; desert; farm animal; a hump on its back; live long without water
    deer; deer; bleats; leaves and grass; forest; wild animal; thin legs and brown fur; jump over fences
    whale; whales; sings; small sea animals; sea; sea animal; a huge grey body; swim very deep
    dolphin; dolphins; clicks; fish; sea; sea animal; smooth grey skin; jump out of the water
    shark; sharks; makes no sound; fish; sea; sea animal; many sharp teeth; smell food from far away
    crab; crabs; makes no sound; small sea animals; beach; sea animal; a hard shell; walk sideways
    fish; fish; makes no sound; water plants; river; sea animal; shiny scales; breathe in water
    turtle; turtles; makes no sound; plants; beach; small animal; a hard shell; live very long
    bee; bees; buzzes; flowers; hive; insect; yellow and black stripes; make honey
    ant; ants; makes no sound; crumbs and leaves; ground; insect; six thin legs; carry heavy things
    butterfly; butterflies; makes no sound; flowers; garden; insect; colorful wings; fly from flower to flower
    spider; spiders; makes no sound; flies; web; small animal; eight legs; build webs
    snail; snails; makes no sound; leaves; garden; small animal; a shell on its back; climb walls
    hedgehog; hedgehogs; snorts; insects; garden; small animal; sharp spines; roll into a ball`,
  ),
  tools: table(
    'word; plural; use; material',
    `
    hammer; hammers; hit nails; metal and wood
    saw; saws; cut wood; metal
    knife; knives; cut bread; metal
    fork; forks; eat meat and vegetables; metal
    spoon; spoons; eat soup; metal
    pen; pens; write letters; plastic
    pencil; pencils; draw pictures; wood
    brush; brushes; paint walls; wood and hair
    broom; brooms; sweep the floor; wood and straw
    key; keys; open doors; metal
    rope; ropes; tie things together; string
    ladder; ladders; reach high places; wood
    needle; needles; sew clothes; metal
    shovel; shovels; dig holes; metal and wood
    bucket; buckets; carry water; plastic
    axe; axes; chop wood; metal and wood
    lamp; lamps; light a room; glass and metal
    candle; candles; light a dark room; wax
    clock; clocks; tell the time; metal and glass
    watch; watches; tell the time; metal
    phone; phones; call friends; plastic and glass
    computer; computers; write and calculate; plastic and metal
    printer; printers; print pages; plastic
    camera; cameras; take pictures; plastic and glass
    radio; radios; listen to music; plastic
    umbrella; umbrellas; stay dry in the rain; cloth and metal
    mirror; mirrors; see yourself; glass
    comb; combs; comb hair; plastic
    towel; towels; dry your hands; cotton
    soap; soaps; wash your hands; oil
    scissors; scissors; cut paper; metal
    glue; glues; stick paper together; plants
    map; maps; find the way; paper
    bag; bags; carry things; cloth
    basket; baskets; carry fruit; straw
    box; boxes; store things; paper
    bottle; bottles; hold water; glass
    pot; pots; cook soup; metal
    pan; pans; fry eggs; metal
    kettle; kettles; boil water; metal
    oven; ovens; bake bread; metal
    fridge; fridges; keep food cold; metal
    stove; stoves; cook food; metal
    pump; pumps; move water; metal
    tent; tents; sleep outside; cloth
    blanket; blankets; keep warm in bed; wool
    pillow; pillows; rest your head; cotton
    whistle; whistles; make a loud sound; metal
    net; nets; catch fish; string
    screwdriver; screwdrivers; turn screws; metal
    tablet; tablets; read and watch films; glass and metal
    charger; chargers; charge a phone; plastic
    keyboard; keyboards; type words; plastic`,
  ),
  things: table(
    'word; plural; material',
    `
    ball; balls; rubber
    book; books; paper
    cup; cups; clay
    mug; mugs; clay
    plate; plates; clay
    bowl; bowls; wood
    chair; chairs; wood
    table; tables; wood
    desk; desks; wood
    shelf; shelves; wood
    bench; benches; stone
    bed; beds; wood
    sofa; sofas; cloth
    carpet; carpets; wool
    curtain; curtains; cloth
    door; doors; wood
    window; windows; glass
    wall; walls; brick
    bike; bikes; metal
    car; cars; metal
    boat; boats; wood
    train; trains; metal
    truck; trucks; metal
    wagon; wagons; wood
    kite; kites; paper
    doll; dolls; cloth
    drum; drums; wood
    flute; flutes; wood
    guitar; guitars; wood
    piano; pianos; wood
    bell; bells; metal
    coin; coins; metal
    ring; rings; gold
    necklace; necklaces; silver
    hat; hats; wool
    cap; caps; cotton
    coat; coats; wool
    jacket; jackets; leather
    shirt; shirts; cotton
    dress; dresses; silk
    skirt; skirts; cotton
    sweater; sweaters; wool
    scarf; scarves; wool
    belt; belts; leather
    glove; gloves; leather
    sock; socks; wool
    shoe; shoes; leather
    boot; boots; leather
    letter; letters; paper
    card; cards; paper
    picture; pictures; paper
    newspaper; newspapers; paper
    notebook; notebooks; paper
    toy; toys; plastic
    robot; robots; metal
    puzzle; puzzles; wood
    vase; vases; glass
    flag; flags; cloth
    stone; stones; stone
    shell; shells; chalk
    flower; flowers; leaves
    suitcase; suitcases; leather
    wallet; wallets; leather
    backpack; backpacks; cloth
    parcel; parcels; paper
    ticket; tickets; paper
    tray; trays; wood`,
  ),
  foods: table(
    'word; plural; kind; taste; color',
    `
    apple; apples; fruit; sweet; red
    pear; pears; fruit; sweet; green
    plum; plums; fruit; sweet; purple
    cherry; cherries; fruit; sweet; red
    banana; bananas; fruit; sweet; yellow
    orange; oranges; fruit; sweet; orange
    lemon; lemons; fruit; sour; yellow
    grape; grapes; fruit; sweet; purple
    peach; peaches; fruit; sweet; orange
    melon; melons; fruit; sweet; green
    strawberry; strawberries; fruit; sweet; red
    carrot; carrots; vegetable; fresh; orange
    potato; potatoes; vegetable; mild; brown
    tomato; tomatoes; vegetable; fresh; red
    onion; onions; vegetable; sharp; white
    cucumber; cucumbers; vegetable; fresh; green
    cabbage; cabbages; vegetable; mild; green
    pumpkin; pumpkins; vegetable; mild; orange
    pepper; peppers; vegetable; sharp; red
    bean; beans; vegetable; mild; green
    cake; cakes; dessert; sweet; brown
    cookie; cookies; dessert; sweet; brown
    pie; pies; dessert; sweet; brown
    pancake; pancakes; dessert; sweet; yellow
    sandwich; sandwiches; meal; salty; brown
    egg; eggs; food; mild; white
    sausage; sausages; food; salty; brown
    nut; nuts; snack; dry; brown`,
  ),
  meals: words(
    'bread, soup, rice, cheese, butter, honey, jam, salad, pasta, fish, meat, chicken, porridge, toast',
  ),
  drinks: words('water, milk, tea, coffee, juice, lemonade, cocoa'),
  colors: words('red, blue, green, yellow, black, white, brown, orange, purple, pink, grey, golden'),
  sizes: words('big, small, large, little, tiny, huge, tall, short, long'),
  qualities: words(
    'old, new, pretty, broken, clean, dirty, heavy, light, cheap, strange, beautiful, simple, round, soft, strong, empty, shiny, plain, good, nice, warm, wet, useful, famous, favorite, lovely',
  ),
  opposites: table(
    'word; other',
    `
    hot; cold
    cold; hot
    big; small
    small; big
    long; short
    tall; short
    old; young
    new; old
    fast; slow
    slow; fast
    happy; sad
    sad; happy
    open; closed
    full; empty
    empty; full
    light; heavy
    heavy; light
    hard; soft
    soft; hard
    wet; dry
    dry; wet
    clean; dirty
    dirty; clean
    rich; poor
    poor; rich
    strong; weak
    weak; strong
    loud; quiet
    quiet; loud
    early; late
    late; early
    near; far
    high; low
    low; high
    good; bad
    bad; good
    dark; bright
    bright; dark
    cheap; expensive
    thick; thin
    thin; thick
    left; right
    right; wrong
    wide; narrow
    deep; shallow
    easy; difficult
    sweet; sour
    safe; dangerous
    first; last
    up; down
    inside; outside
    day; night
    summer; winter
    yes; no`,
  ),
  feelings: table(
    'word; cause; act',
    `
    happy; it was a beautiful day; smiled
    happy; there was cake for everybody; laughed
    happy; a friend came to visit; sang a song
    sad; the summer was over; cried a little
    sad; nobody came to play; sat down quietly
    sad; the rain would not stop; looked out of the window
    angry; the door was locked; shouted
    angry; somebody had taken the last cookie; did not say a word
    tired; the day had been long; yawned
    tired; the way was very long; lay down to rest
    hungry; breakfast was many hours ago; looked for something to eat
    thirsty; the sun was hot; drank a glass of water
    afraid; it was very dark; held tight to the lamp
    afraid; there was a loud noise; hid under the bed
    proud; the work was done well; showed it to everybody
    surprised; nobody had expected guests; did not know what to say
    curious; there was a strange sound behind the door; listened carefully
    bored; there was nothing to do; counted the clouds
    nervous; the test was about to begin; took a deep breath
    calm; everything was in order; sat in the garden
    excited; the holidays began the next day; could not sleep
    lonely; all the friends were away; wrote a long letter
    grateful; so many people had helped; said thank you
    worried; it was already late; waited at the window`,
  ),
  places: table(
    'word; at; kind',
    `
    kitchen; in the kitchen; room
    garden; in the garden; place outside
    forest; in the forest; place outside
    park; in the park; place outside
    school; at school; building
    market; at the market; place in town
    station; at the station; place in town
    library; in the library; building
    office; in the office; building
    river; by the river; place outside
    lake; by the lake; place outside
    beach; on the beach; place outside
    farm; on the farm; place outside
    village; in the village; place
    city; in the city; place
    bakery; in the bakery; building
    shop; in the shop; building
    hospital; in the hospital; building
    museum; in the museum; building
    theater; in the theater; building
    castle; in the castle; building
    bridge; on the bridge; place outside
    mountain; on the mountain; place outside
    harbor; in the harbor; place outside
    field; in the field; place outside
    bathroom; in the bathroom; room
    bedroom; in the bedroom; room
    living room; in the living room; room
    cellar; in the cellar; room
    garage; in the garage; room
    attic; in the attic; room
    playground; on the playground; place outside
    airport; at the airport; place in town
    bank; at the bank; building
    restaurant; in the restaurant; building
    hotel; in the hotel; building
    island; on the island; place outside
    hill; on the hill; place outside
    street; in the street; place in town
    zoo; at the zoo; place in town`,
  ),
  spots: words(
    'on the table, under the bed, behind the door, in the box, on the chair, next to the window, under the table, on the shelf, in the drawer, behind the sofa, in the basket, near the stove, on the floor, in the bag, under the tree, between two stones, in the cupboard, on the roof, beside the lamp, in the corner',
  ),
  times: words(
    'in the morning, in the evening, at noon, at night, after breakfast, before dinner, after lunch, after school, on the weekend, early in the morning, late in the evening, in the afternoon, after work',
  ),
  openings: words(
    'one day, one morning, one evening, one sunny day, last week, yesterday, on a cold day, on a rainy day, last summer, last winter, on Sunday, a long time ago, some days ago, this morning, once',
  ),
  days: words('Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday'),
  months: words(
    'January, February, March, April, May, June, July, August, September, October, November, December',
  ),
  seasons: table(
    'word; weather; does',
    `
    spring; mild and fresh; the flowers open and the birds build nests
    summer; hot and dry; the days are long and people swim in the lake
    autumn; cool and windy; the leaves turn red and fall from the trees
    winter; cold and white; snow lies on the roofs and lakes freeze`,
  ),
  weather: table(
    'word; now; today; effect; need',
    `
    rain; it was raining; it is raining; the streets were wet; an umbrella
    snow; it was snowing; it is snowing; the whole town was white; warm boots
    sun; the sun was shining; the sun is shining; the air was warm; a hat
    wind; the wind was blowing; the wind is blowing; the leaves flew through the air; a warm jacket
    fog; it was foggy; it is foggy; nobody could see far; a good lamp
    storm; there was a storm; there is a storm; the windows shook; a safe place
    frost; it was freezing; it is freezing; the lake was covered with ice; thick gloves
    clouds; the sky was full of clouds; the sky is full of clouds; it was a little dark; a raincoat`,
  ),
  numbers: table(
    'word; digit',
    `
    two; 2
    three; 3
    four; 4
    five; 5
    six; 6
    seven; 7
    eight; 8
    nine; 9
    ten; 10
    twelve; 12`,
  ),
  intransitive: verbs(
    'walk, laugh, smile, work, wait, dance, play, rest, cry, jump, run/ran/run, sleep/slept, sing/sang/sung, swim/swam/swum, sit/sat, stand/stood, shout, whisper, listen, travel, cough, arrive, hurry, climb, dream, fall/fell/fallen, read/read, paint, cook, think/thought, speak/spoke/spoken, look around, come back/came back/come back, stay, leave/left, begin/began/begun',
  ).filter(v => !v.word.includes(' ')),
  handling: verbs(
    'carry, hold/held, take/took/taken, find/found, lose/lost, buy/bought, sell/sold, bring/brought, show/showed/shown, clean, wash, open, close, paint, repair, break/broke/broken, hide/hid/hidden, see/saw/seen, like, want, need, keep/kept, give away/gave away/given away, drop/dropped, lift, push, pull, touch, watch, draw/drew/drawn, forget/forgot/forgotten, choose/chose/chosen, borrow, order, send/sent, return, pack, pick up/picked up, put down/put down, collect, check, move, count, throw/threw/thrown, catch/caught, miss, use, receive, remember',
  ).filter(v => !v.word.includes(' ')),
  manners: words(
    'slowly, quickly, quietly, happily, carefully, loudly, gently, suddenly, softly, proudly, sadly, easily, patiently, politely, together, alone, again, bravely, calmly',
  ),
  activities: table(
    'word; past; ing',
    `
    play football; played football; playing football
    play the piano; played the piano; playing the piano
    play chess; played chess; playing chess
    read a book; read a book; reading a book
    bake a cake; baked a cake; baking a cake
    swim in the lake; swam in the lake; swimming in the lake
    ride a bike; rode a bike; riding a bike
    draw a picture; drew a picture; drawing a picture
    sing a song; sang a song; singing a song
    water the flowers; watered the flowers; watering the flowers
    feed the animals; fed the animals; feeding the animals
    clean the house; cleaned the house; cleaning the house
    wash the dishes; washed the dishes; washing the dishes
    watch a film; watched a film; watching a film
    write a letter; wrote a letter; writing a letter
    climb a tree; climbed a tree; climbing a tree
    go for a walk; went for a walk; going for a walk
    fly a kite; flew a kite; flying a kite
    build a house of cards; built a house of cards; building a house of cards
    make soup; made soup; making soup
    listen to music; listened to music; listening to music
    visit a friend; visited a friend; visiting a friend
    take pictures; took pictures; taking pictures
    plant a tree; planted a tree; planting a tree
    tell stories; told stories; telling stories
    learn a language; learned a language; learning a language
    sew a shirt; sewed a shirt; sewing a shirt
    catch fish; caught fish; catching fish
    dance; danced; dancing
    paint the fence; painted the fence; painting the fence
    help in the garden; helped in the garden; helping in the garden
    look at the stars; looked at the stars; looking at the stars`,
  ),
  groups: table(
    'word; plural; a; b; c; d',
    `
    animal; animals; cat; horse; bear; frog
    animal; animals; lion; duck; mouse; sheep
    fruit; fruits; apple; pear; banana; lemon
    fruit; fruits; cherry; plum; grape; orange
    vegetable; vegetables; carrot; potato; onion; cabbage
    vegetable; vegetables; tomato; bean; pumpkin; pepper
    color; colors; red; blue; green; yellow
    color; colors; black; white; brown; pink
    tool; tools; hammer; saw; shovel; axe
    drink; drinks; water; milk; tea; juice
    bird; birds; owl; eagle; duck; crow
    season; seasons; spring; summer; autumn; winter
    day; days; Monday; Tuesday; Friday; Sunday
    month; months; January; March; June; October
    piece of clothing; pieces of clothing; hat; coat; shirt; scarf
    piece of furniture; pieces of furniture; table; chair; bed; shelf
    room; rooms; kitchen; bedroom; bathroom; cellar
    job; jobs; baker; farmer; teacher; doctor
    instrument; instruments; piano; guitar; flute; drum
    vehicle; vehicles; car; train; boat; bike
    part of the body; parts of the body; hand; foot; head; nose
    number; numbers; two; five; seven; nine
    insect; insects; bee; ant; butterfly; fly
    sport; sports; football; tennis; swimming; running
    feeling; feelings; joy; anger; fear; hope
    language; languages; English; French; Spanish; Chinese
    country; countries; France; Japan; Brazil; Egypt
    school subject; school subjects; math; history; music; art`,
  ),
  countries: table(
    'word; capital; language',
    `
    France; Paris; French
    Germany; Berlin; German
    Spain; Madrid; Spanish
    Italy; Rome; Italian
    England; London; English
    Japan; Tokyo; Japanese
    China; Beijing; Chinese
    Russia; Moscow; Russian
    Greece; Athens; Greek
    Egypt; Cairo; Arabic
    Poland; Warsaw; Polish
    Portugal; Lisbon; Portuguese`,
  ),
  truths: words(
    'the sun is hot and bright, water is wet, ice is frozen water, the moon shines at night, trees need water and light, a week has seven days, a year has twelve months, an hour has sixty minutes, birds have wings and feathers, fish live in water, bread is made from flour, cheese is made from milk, honey is made by bees, wool comes from sheep, wood comes from trees, glass breaks easily, metal is hard and strong, stones are heavy, fire is hot, snow is cold and white, the sky is blue on a clear day, grass is green, lemons are sour, sugar is sweet, the sea is salty, plants grow in the ground, cars drive on roads, ships sail on the sea, planes fly in the sky, trains run on rails, people sleep at night, children go to school, a triangle has three sides, a square has four sides, a hand has five fingers, the heart moves the blood, we hear with our ears, we see with our eyes, we smell with the nose, teeth are hard and white',
  ),
} satisfies Record<string, readonly Entry[]>;

export type ListName = keyof typeof lexicon | 'people';

/** Every list by name, with the lists that are put together of others. */
export const lists: Readonly<Record<ListName, readonly Entry[]>> = {
  ...lexicon,
  people: [...lexicon.women, ...lexicon.men],
};
